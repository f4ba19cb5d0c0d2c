"""DeepLabV3, cascaded blocks 5 to 7 / ResNet-101 / PASCAL VOC 2012.

jaxseg train voc_deeplabv3_cascade --config.data.root=DIR --workdir runs/voc_deeplabv3_cascade
Chen et al., 2017, arXiv:1706.05587, sections 3.2 and 4.2: output stride 16, multi-grid (1, 2, 1) in block 4 and those
after it, the best of table 3; otherwise as voc_deeplabv3.py.
DIR is VOC2012 as it is downloaded, 21 classes. With SBD: --config.data.train_split=train_aug (docs/data.md).
Starts from ImageNet weights, as the paper does: `jaxseg list --weights resnet101`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="voc", canvas=(513, 513), crop=(513, 513), batch_size=16)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(name="deeplabv3_cascade", encoder="resnet101", encoder_weights="imagenet", dtype="bfloat16")
    c.model.encoder_options = {"multi_grid": (1, 2, 1)}
    c.optim.update(name="sgd", lr=0.007, momentum=0.9, weight_decay=1e-4, schedule="poly", power=0.9)
    c.train.steps = 30_000
    c.checkpoint.every = 500
    c.eval.every = 1000
    return c
