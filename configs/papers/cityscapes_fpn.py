"""FPN / ResNet-101 / Cityscapes.

jaxseg train cityscapes_fpn --config.data.root=DIR --workdir runs/cityscapes_fpn
Kirillov et al., 2019, arXiv:1901.02446, section 5: the semantic branch of Panoptic FPN; crops of 512 x 1024, batches
of 32, scales 0.5 to 2, SSD's changes of color, rate 0.01, 65 000 steps, a tenth of the rate at 40 000 and at 55 000.
There the head has GroupNorm, the encoder a BatchNorm that stays as it was.
DIR is Cityscapes as it is downloaded, with leftImg8bit and gtFine: 19 classes, images of 1024 x 2048.
Starts from ImageNet weights, as the paper does: `jaxseg list --weights resnet101`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="cityscapes", canvas=(1024, 2048), crop=(512, 1024), batch_size=32)
    c.augment.update(scale=(0.5, 2.0), flip=0.5, brightness=0.125, contrast=0.5, saturation=0.5, hue=0.1)
    c.model.update(name="fpn", encoder="resnet101", encoder_weights="imagenet", dtype="bfloat16")
    c.optim.update(name="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4, warmup_steps=1000)
    c.optim.update(schedule="steps", drops=(40 / 65, 55 / 65), drop_factor=0.1)
    c.train.steps = 65_000
    c.checkpoint.every = 1000
    c.eval.every = 5000
    c.eval.batch_size = 2
    return c
