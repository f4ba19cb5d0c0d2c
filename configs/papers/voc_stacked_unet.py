"""Stacked U-Nets / PASCAL VOC 2012.

jaxseg train voc_stacked_unet --config.data.root=DIR --workdir runs/voc_stacked_unet
Shah et al., 2018, arXiv:1804.10343, as the authors' code trains it: output stride 16, crops of 512 x 512, batches of
22, scales 0.5 to 2, turns by up to 10 degrees, half a cosine from 2e-4, 90 epochs. That code refines a trained network
by SGD with momentum 0.95 and ten times the rate in the head; from random weights, AdamW here.
DIR is VOC2012 as it is downloaded, 21 classes. With SBD: --config.data.train_split=train_aug (docs/data.md).
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="voc", canvas=(512, 512), crop=(512, 512), batch_size=22)
    c.augment.update(scale=(0.5, 2.0), flip=0.5, rotate=10.0)
    c.model.update(name="stacked_unet", dtype="bfloat16")
    c.optim.update(lr=2e-4, weight_decay=1e-4, schedule="cosine")
    c.train.epochs = 90
    c.checkpoint.every = 500
    return c
