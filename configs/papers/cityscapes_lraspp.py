"""LR-ASPP / MobileNetV3-Large / Cityscapes.

jaxseg train cityscapes_lraspp --config.data.root=DIR --workdir runs/cityscapes_lraspp
Howard et al., 2019, arXiv:1905.02244, section 6.4: from random weights, by DeepLabV3's protocol for Cityscapes
(arXiv:1706.05587, appendix C): crops of 769 x 769 (here 768 x 768, a multiple of the stride, since the head keeps the
corners of images as torchvision's does), batches of 16, poly 0.9 from 0.007, 90 000 steps.
DIR is Cityscapes as it is downloaded, with leftImg8bit and gtFine: 19 classes, images of 1024 x 2048.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="cityscapes", canvas=(1024, 2048), crop=(768, 768), batch_size=16)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(name="lraspp", encoder="mobilenet_v3_large", output_stride=16, dtype="bfloat16")
    c.optim.update(name="sgd", lr=0.007, momentum=0.9, weight_decay=4e-5, schedule="poly", power=0.9)
    c.train.steps = 90_000
    c.checkpoint.every = 1000
    c.eval.every = 5000
    c.eval.batch_size = 4
    return c
