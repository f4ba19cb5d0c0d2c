"""FPN with a second, bottom-up path / ResNet-50 / Cityscapes.

jaxseg train cityscapes_panet --config.data.root=DIR --workdir runs/cityscapes_panet
Liu et al., 2018, arXiv:1803.01534, section 3.1; the paper segments instances, so the schedule is that of
cityscapes_fpn.py, without the changes of color, which that paper has for its largest encoders only.
DIR is Cityscapes as it is downloaded, with leftImg8bit and gtFine: 19 classes, images of 1024 x 2048.
Starts from ImageNet weights, as the paper does: `jaxseg list --weights resnet50`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="cityscapes", canvas=(1024, 2048), crop=(512, 1024), batch_size=32)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(name="panet", encoder="resnet50", encoder_weights="imagenet", dtype="bfloat16")
    c.optim.update(name="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4, warmup_steps=1000)
    c.optim.update(schedule="steps", drops=(40 / 65, 55 / 65), drop_factor=0.1)
    c.train.steps = 65_000
    c.checkpoint.every = 1000
    c.eval.every = 5000
    c.eval.batch_size = 2
    return c
