"""U-Net / plain encoder / the embedded shapes set: the main job in a few minutes on a laptop, nothing to download.

jaxseg train shapes_unet --workdir runs/shapes
Measured: val mIoU 0.8562, 4 min 52 s with the installation of the package, nothing compiled before, 2 CPU cores,
2026-11-21, commit 5d4867d. Six epochs: 0.873 (rate 4e-3) and 0.877 (seed 1).
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="shapes", canvas=(64, 64), crop=(64, 64), batch_size=8)
    c.data.options = {"size": 64, "train": 4096, "val": 128}
    c.model.update(name="unet", encoder="plain")
    c.model.encoder_options = {"widths": (24, 48, 96, 128)}
    c.model.options = {"decoder_channels": (96, 48, 32, 24)}
    c.loss.terms = {"cross_entropy": 1.0, "dice": 1.0}
    c.optim.update(lr=3e-3, warmup_steps=20)
    c.train.epochs = 5
    c.log.every = 64
    c.checkpoint.every = 256
    return c
