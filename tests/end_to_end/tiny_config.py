"""A run of a few seconds: a narrow U-Net on 32x32 shapes."""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="shapes", canvas=(32, 32), crop=(32, 32), batch_size=4)
    c.data.options = {"size": 32, "train": 26, "val": 7}
    c.augment.update(scale=(0.8, 1.25), rotate=10.0, brightness=0.1)
    c.model.update(name="unet", encoder="plain")
    c.model.encoder_options = {"widths": (8, 12, 16)}
    c.model.options = {"decoder_channels": (16, 12, 8)}
    c.loss.terms = {"cross_entropy": 1.0, "dice": {"start": 0.5, "end": 1.0, "begin_step": 4, "end_step": 20}}
    c.optim.update(lr=2e-3, ema=0.9, clip_norm=1.0)
    c.train.steps = 20
    c.log.update(every=3, images=3, grad_norm=True)
    c.checkpoint.every = 4
    c.eval.update(every=10, batch_size=4)
    return c
