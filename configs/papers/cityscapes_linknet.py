"""LinkNet / ResNet-18 / Cityscapes.

jaxseg train cityscapes_linknet --config.data.root=DIR --workdir runs/cityscapes_linknet
Chaurasia & Culurciello, 2017, arXiv:1707.03718, section IV: images at 512 x 1024, rate 5e-4; the paper's RMSProp is
AdamW here.
DIR is Cityscapes as it is downloaded, with leftImg8bit and gtFine: 19 classes, images of 1024 x 2048.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="cityscapes", canvas=(512, 1024), crop=(512, 1024), batch_size=10)
    c.data.resize.factor = 0.5
    c.model.update(name="linknet", encoder="resnet18", dtype="bfloat16")
    c.optim.update(lr=5e-4, weight_decay=2e-4, schedule="poly")
    c.train.epochs = 150
    c.checkpoint.every = 500
    c.eval.every = 3000
    c.eval.batch_size = 4
    return c
