"""U-Net as published, but narrow and a level shallower / the embedded pages set: what is printed and written on scans.

jaxseg train pages_unet --workdir runs/pages
Nothing to download; docs/ocr.md goes on from there. The published U-Net looks at the image's own size first, which thin
strokes need: with unet and the encoder plain, which halves the image before its first convolution, 6 min 36 s of
processor time came to val mIoU 0.6218 on pages of 128 x 128, and to IoU 0.399 of text.
Measured: val mIoU 0.8011, 8 min 8 s of processor time, 11 min 6 s on a busy machine, 2 CPU cores (AMD EPYC),
2026-11-27, commit 18f753a with this set. F1 of ink against paper is 0.933, Sauvola's threshold has 0.943 (docs/ocr.md).
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="pages", canvas=(192, 192), crop=(192, 192), batch_size=2)
    c.data.options = {"size": 192, "train": 2048, "val": 96}
    c.model.update(name="unet_original")
    c.model.options = {"widths": (16, 32, 64, 96), "dropout": 0.0}
    c.loss.terms = {"cross_entropy": 1.0, "dice": 1.0}
    c.optim.update(lr=2e-3, warmup_steps=50)
    c.train.epochs = 1
    c.log.every = 64
    c.checkpoint.every = 512
    return c
