"""DeepLabV2 / ResNet-101 / PASCAL VOC 2012.

jaxseg train voc_deeplabv2 --config.data.root=DIR --workdir runs/voc_deeplabv2
Chen et al., 2016, arXiv:1606.00915, section 4.1: scales 0.5 to 1.5, crops of 321 x 321, batches of 10, poly 0.9 from
2.5e-4, ten times that for the new layers (twenty times for their biases, as in train.prototxt), 20 000 steps. There
three sizes of an image are seen at once, BatchNorm stays as it was, and the network was trained on COCO before.
DIR is VOC2012 as it is downloaded, 21 classes. With SBD: --config.data.train_split=train_aug (docs/data.md).
Starts from ImageNet weights, as the paper does: `jaxseg list --weights resnet101`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="voc", canvas=(513, 513), crop=(321, 321), batch_size=10)
    c.augment.update(scale=(0.5, 1.5), flip=0.5)
    c.model.update(name="deeplabv2", encoder="resnet101", encoder_weights="imagenet")
    c.optim.update(name="sgd", lr=2.5e-4, momentum=0.9, weight_decay=5e-4, schedule="poly", power=0.9)
    c.optim.lr_factors = {"head": 10.0, "head/*/bias": 2.0}
    c.train.steps = 20_000
    c.checkpoint.every = 500
    c.eval.every = 1000
    return c
