"""A patch classifier / ISBI 2012, neurons under the electron microscope.

jaxseg train isbi_patch_cnn --config.data.root=DIR --workdir runs/isbi_patch_cnn
Ciresan et al., 2012, Deep neural networks segment neuronal membranes in electron microscopy images, section 2: a
network that labels the center of a window, here trained densely.
DIR holds the challenge's train-volume.tif and train-labels.tif: cell and membrane, 30 slices of 512 x 512.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="isbi", canvas=(512, 512), crop=(128, 128), batch_size=8)
    c.augment.update(flip=0.5, flip_vertical=0.5, rotate=180.0)
    c.model.update(name="patch_cnn")
    c.optim.update(lr=1e-3, schedule="poly")
    c.train.steps = 20_000
    c.checkpoint.every = 500
    c.eval.every = 1000
    return c
