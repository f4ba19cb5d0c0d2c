"""U-Net / plain encoder / MNI 152 template: gray and white matter in the slices of a NIfTI volume, one band of 16 bits.

jaxseg train mni_unet --config.data.root=DIR --workdir runs/mni
docs/data.md makes DIR from what nilearn ships: 52 slices to train, 14 to validate, a block apart.
Measured: val mean Dice 0.918 (0.934 at step 100, the best checkpoint), mIoU 0.852 (0.879); 42 s of processor time, 3
min 51 s on a core that others used too, AMD EPYC, 2026-11-26, at 6eafbf9. At 87eef85 on 2026-11-27: mIoU 0.845
(0.859 at step 100), 43 s. At b628eee that day 0.872 at its best, 37 s of processor time, 26 s; in another environment,
at 96cdb3b, 0.852: docs/medical.md. What differs between these runs was not found out.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="folder", canvas=(96, 112), crop=(64, 64), batch_size=8)
    c.augment.update(scale=(0.9, 1.1), rotate=10.0, flip=0.5, brightness=0.1, contrast=0.1)
    c.model.update(name="unet", encoder="plain")
    c.model.encoder_options = {"widths": (16, 24, 48), "convs": 1}
    c.model.options = {"decoder_channels": (48, 24, 16)}
    c.loss.terms = {"cross_entropy": 1.0, "dice": 1.0}
    c.optim.update(lr=5e-3, warmup_steps=20, ema=0.98)
    c.train.steps = 200
    c.log.every = 50
    c.checkpoint.every = 100
    c.eval.update(every=100, batch_size=8)
    return c
