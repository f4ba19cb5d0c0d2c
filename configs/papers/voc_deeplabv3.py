"""DeepLabV3 / ResNet-101, multi-grid (1, 2, 4) / PASCAL VOC 2012.

jaxseg train voc_deeplabv3 --config.data.root=DIR --workdir runs/voc_deeplabv3
Chen et al., 2017, arXiv:1706.05587, section 4.1: output stride 16, crops of 513 x 513, batches of 16, scales 0.5 to 2,
poly 0.9 from 0.007, 30 000 steps. The paper evaluates at output stride 8.
DIR is VOC2012 as it is downloaded, 21 classes. With SBD: --config.data.train_split=train_aug (docs/data.md).
Starts from ImageNet weights, as the paper does: `jaxseg list --weights resnet101`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="voc", canvas=(513, 513), crop=(513, 513), batch_size=16)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(
        name="deeplabv3", encoder="resnet101", encoder_weights="imagenet", output_stride=16, dtype="bfloat16"
    )
    c.model.encoder_options = {"multi_grid": (1, 2, 4)}
    c.model.options = {"rates": (6, 12, 18)}
    c.optim.update(name="sgd", lr=0.007, momentum=0.9, weight_decay=1e-4, schedule="poly", power=0.9)
    c.train.steps = 30_000
    c.checkpoint.every = 500
    c.eval.every = 1000
    return c
