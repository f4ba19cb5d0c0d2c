"""BiFPN / EfficientNet-B4 / PASCAL VOC 2012.

jaxseg train voc_bifpn --config.data.root=DIR --workdir runs/voc_bifpn
Tan, Pang & Le, 2020, arXiv:1911.09070, section 5.2; the paper gives the architecture and no schedule, which is
DeepLabV3+'s here, with the weight decay and the averaged weights that the authors' detectors have.
DIR is VOC2012 as it is downloaded, 21 classes. With SBD: --config.data.train_split=train_aug (docs/data.md).
Starts from ImageNet weights: `jaxseg list --weights efficientnet_b4`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="voc", canvas=(513, 513), crop=(513, 513), batch_size=16)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(name="bifpn", encoder="efficientnet_b4", encoder_weights="imagenet", dtype="bfloat16")
    c.optim.update(name="sgd", lr=0.007, momentum=0.9, weight_decay=4e-5, schedule="poly", power=0.9, ema=0.9998)
    c.train.steps = 30_000
    c.checkpoint.every = 500
    c.eval.every = 1000
    return c
