"""FPN / EfficientNet-Lite0 on a folder of images of your own, of any size.

jaxseg train folder_fpn --config.data.root=DIR --workdir runs/folder_fpn
DIR holds {train,val}/{images,labels} and classes.json (docs/data.md); `jaxseg data check DIR` looks at it first. Of
images larger than 640 x 640, windows are cut; zooms of 0.5 to 2 make crops of 320 x 320 of them. Needs pip install
'jaxseg[imagenet]'. Few images make few steps an epoch (20 in batches of 8: two): train such a set for more epochs.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="folder", canvas=(640, 640), crop=(320, 320), batch_size=8)
    c.augment.update(scale=(0.5, 2.0), flip=0.5, brightness=0.2, contrast=0.2)
    c.model.update(name="fpn", encoder="efficientnet_lite0", encoder_weights="imagenet")
    c.optim.update(lr=1e-3, encoder_lr_factor=0.1, weight_decay=1e-4)
    c.train.epochs = 30
    return c
