"""Patch classifier / Indian Pines: 200 bands of 16 bits; every pixel by the 6 x 6 pixels around it.

jaxseg train indian_pines_patch --config.data.root=DIR --workdir runs/indian_pines
docs/data.md makes DIR: the left 45 columns train, the others validate; of 16 classes, 4 are on the right alone.
Measured: val mIoU 0.228, overall accuracy 0.294; 1 min 41 s of processor time, 1 min 39 s on a busy machine, AMD EPYC,
2026-11-26, at 6eafbf9. scikit-learn's SVM (RBF, standardized bands, C = 100 and gamma = 0.005 chosen by three folds of
the left side): 0.187 and 0.317, that is, more pixels right, but fewer classes. U-Nets stayed below 0.185.
With 1200 steps 0.212 and 0.294. With data.balance=0.5 as well 0.188 and 0.288, and of the rarest class on both sides,
stone and steel (10 pixels to train on), IoU 0.878 instead of 0.643.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="folder", canvas=(16, 16), crop=(16, 16), batch_size=8)
    c.data.update(label_ignore=(0,), label_offset=-1)
    c.augment.update(flip=0.5, flip_vertical=0.5)
    c.model.name = "patch_cnn"
    c.model.options = {"widths": (64,), "kernel_sizes": (3,), "positions": 2, "hidden": 64}
    c.optim.update(lr=3e-3, warmup_steps=20, ema=0.99)
    c.train.steps = 2400
    c.log.every = 100
    c.checkpoint.every = 600
    c.eval.update(every=600, batch_size=1)
    return c
