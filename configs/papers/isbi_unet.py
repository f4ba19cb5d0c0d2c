"""U-Net as published / ISBI 2012, neurons under the electron microscope.

jaxseg train isbi_unet --config.data.root=DIR --workdir runs/isbi_unet
Ronneberger, Fischer & Brox, 2015, arXiv:1505.04597, section 3: one tile per step (388 x 388 labeled pixels out of 572 x
572 seen), momentum 0.99, elastic warps by 3 x 3 vectors of 10 pixels, more weight between two cells.
DIR holds the challenge's train-volume.tif and train-labels.tif: cell and membrane, 30 slices of 512 x 512.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="isbi", canvas=(512, 512), crop=(388, 388), batch_size=1)
    c.augment.update(elastic=10.0, elastic_grid=3, flip=0.5, flip_vertical=0.5, rotate=180.0)
    c.model.update(name="unet_original")
    c.loss.terms = {"unet_cross_entropy": 1.0}
    c.loss.options = {"unet_cross_entropy": {"cell_class": 0}}  # cell, then membrane
    c.optim.update(name="sgd", lr=1e-3, momentum=0.99, weight_decay=0.0, schedule="constant")
    c.train.steps = 40_000
    c.checkpoint.every = 1000
    c.eval.every = 1000
    return c
