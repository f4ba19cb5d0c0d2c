"""U-Net / ResNet-18 / the embedded shapes set: the main job in a few minutes on a laptop, nothing to download.

python train.py --config configs/shapes_unet.py --workdir runs/shapes
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="shapes", canvas=(64, 64), crop=(64, 64), batch_size=16)
    c.data.options = {"size": 64, "train": 1024, "val": 128}
    c.augment.update(scale=(0.8, 1.25), flip=0.5)
    c.model.update(name="unet", encoder="resnet18")
    c.model.options = {"decoder_channels": (128, 64, 32, 32, 16)}
    c.loss.terms = {"cross_entropy": 1.0, "dice": 1.0}
    c.optim.update(lr=2e-3, warmup_steps=20)
    c.train.epochs = 7
    return c
