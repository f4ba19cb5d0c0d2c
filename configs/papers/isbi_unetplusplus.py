"""U-Net++ with deep supervision / ISBI 2012, neurons under the electron microscope.

jaxseg train isbi_unetplusplus --config.data.root=DIR --workdir runs/isbi_unetplusplus
Zhou et al., 2018, arXiv:1807.10165, section 3: Adam from 3e-4, binary cross entropy and Dice, the mean over the heads.
DIR holds the challenge's train-volume.tif and train-labels.tif: cell and membrane, 30 slices of 512 x 512.
The paper's own data are cells, nuclei, polyps and livers.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="isbi", canvas=(512, 512), crop=(512, 512), batch_size=4)
    c.augment.update(elastic=10.0, flip=0.5, flip_vertical=0.5, rotate=180.0)
    c.model.update(name="unetplusplus", encoder="plain")
    c.model.encoder_options = {"widths": (32, 64, 128, 256, 512)}
    c.model.options = {"deep_supervision": True}
    c.loss.heads = {"logits": 0.25, "level1": 0.25, "level2": 0.25, "level3": 0.25}
    c.loss.terms = {"cross_entropy": 0.5, "dice": 1.0}
    c.optim.update(lr=3e-4, weight_decay=0.0, schedule="constant")
    c.train.steps = 20_000
    c.checkpoint.every = 500
    c.eval.every = 1000
    return c
