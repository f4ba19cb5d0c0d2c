"""DeepLab-LargeFOV at scales 1, 0.75 and 0.5, weighed by attention / PASCAL VOC 2012.

jaxseg train voc_image_pyramid --config.data.root=DIR --workdir runs/voc_image_pyramid
Chen et al., 2016, arXiv:1511.03339, section 4: batches of 30, rate 1e-3 and ten times that for the classifier, momentum
0.9, a loss at every scale besides; the rate falls by polynomial decay, there to a tenth after 2000 steps.
DIR is VOC2012 as it is downloaded, 21 classes. With SBD: --config.data.train_split=train_aug (docs/data.md).
Starts from ImageNet weights, as the paper does: `jaxseg list --weights vgg16`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="voc", canvas=(513, 513), crop=(321, 321), batch_size=30)
    c.model.update(name="image_pyramid", encoder="vgg16", encoder_weights="imagenet")
    c.model.options = {"architecture": "deeplabv1"}
    c.loss.heads = {"logits": 1.0, "scale1": 1.0, "scale2": 1.0, "scale3": 1.0}
    c.optim.update(name="sgd", lr=1e-3, momentum=0.9, weight_decay=5e-4, schedule="poly", power=0.9)
    c.optim.lr_factors = {"head": 10.0}
    c.train.steps = 8000
    c.checkpoint.every = 500
    c.eval.every = 1000
    return c
