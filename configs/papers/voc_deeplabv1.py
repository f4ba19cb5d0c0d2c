"""DeepLab-LargeFOV / VGG-16 / PASCAL VOC 2012.

jaxseg train voc_deeplabv1 --config.data.root=DIR --workdir runs/voc_deeplabv1
Chen et al., 2014, arXiv:1412.7062, section 5: crops of 321 x 321, batches of 20, rate 1e-3 and ten times that for the
classifier, 6000 steps, the rate by polynomial decay as in the second paper (arXiv:1606.00915, table 2). Mirrored
images, and twice the rate for biases, are the authors' train.prototxt.
DIR is VOC2012 as it is downloaded, 21 classes. With SBD: --config.data.train_split=train_aug (docs/data.md).
Starts from ImageNet weights, as the paper does: `jaxseg list --weights vgg16`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="voc", canvas=(513, 513), crop=(321, 321), batch_size=20)
    c.model.update(name="deeplabv1", encoder="vgg16", encoder_weights="imagenet")
    c.optim.update(name="sgd", lr=1e-3, momentum=0.9, weight_decay=5e-4, schedule="poly", power=0.9)
    c.optim.lr_factors = {"head": 10.0, "*/bias": 2.0}
    c.train.steps = 6000
    c.checkpoint.every = 500
    c.eval.every = 1000
    return c
