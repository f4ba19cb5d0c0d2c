"""LinkNet / ResNet-18 / Cityscapes.

jaxseg train cityscapes_linknet --config.data.root=DIR --workdir runs/cityscapes_linknet
Chaurasia & Culurciello, 2017, arXiv:1707.03718, as the authors' code trains it: whole images at 512 x 1024, batches of
8, rate 5e-4 for 100 epochs (what follows has 1e-7 of it), no augmentation, no weight decay. RMSProp is AdamW here.
There a class of frequency p, the most frequent one's being 1, weighs 1 / log(1.02 + p); loss.options can.
DIR is Cityscapes as it is downloaded, with leftImg8bit and gtFine: 19 classes, images of 1024 x 2048.
Starts from ImageNet weights, as the authors' code does: `jaxseg list --weights resnet18`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="cityscapes", canvas=(512, 1024), crop=(512, 1024), batch_size=8)
    c.data.resize.factor = 0.5
    c.augment.flip = 0.0
    c.model.update(name="linknet", encoder="resnet18", encoder_weights="imagenet", dtype="bfloat16")
    c.optim.update(lr=5e-4, weight_decay=0.0, schedule="constant")
    c.train.epochs = 100
    c.checkpoint.every = 500
    c.eval.every = 3000
    c.eval.batch_size = 4
    return c
