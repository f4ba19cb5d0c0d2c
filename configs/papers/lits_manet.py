"""MA-Net / ResNet-34 / LiTS, livers and their tumors in slices of CT.

jaxseg train lits_manet --config.data.root=DIR --workdir runs/lits_manet
Fan et al., 2020, MA-Net: a multi-scale attention network for liver and tumor segmentation, IEEE Access 8. Of its text
only the abstract could be read: size, loss (Dice beside cross entropy), rate and epochs are from memory or ours.
DIR holds {train,val}/{images,labels} and classes.json: background, liver, tumor.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="folder", canvas=(256, 256), crop=(256, 256), batch_size=16)
    c.data.resize.factor = 0.5  # slices are stored as 512 x 512
    c.augment.update(scale=(0.8, 1.25), flip=0.5, rotate=15.0)
    c.model.update(name="manet", encoder="resnet34")
    c.loss.terms = {"cross_entropy": 1.0, "dice": 1.0}
    c.optim.update(lr=3e-4, weight_decay=1e-4, schedule="poly")
    c.train.epochs = 60
    c.checkpoint.every = 500
    return c
