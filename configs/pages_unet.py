"""U-Net / plain encoder / the embedded pages set: title, text, figure, table, rule and ink on worn scans.

jaxseg train pages_unet --workdir runs/pages
docs/ocr.md goes on from there. Nothing to download.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="pages", canvas=(128, 128), crop=(128, 128), batch_size=4)
    c.data.options = {"size": 128, "train": 4096, "val": 128}
    c.model.update(name="unet", encoder="plain")
    c.model.encoder_options = {"widths": (16, 32, 64, 96, 128)}  # the last sees 132 pixels: a figure or a table whole
    c.model.options = {"decoder_channels": (96, 64, 32, 16, 16)}
    c.loss.terms = {"cross_entropy": 1.0, "dice": 1.0}
    c.optim.update(lr=3e-3, warmup_steps=20)
    c.train.epochs = 2
    c.log.every = 64
    c.checkpoint.every = 512
    return c
