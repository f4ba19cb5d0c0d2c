"""FCN-8s / VGG-16 / PASCAL VOC 2012.

jaxseg train voc_fcn8s --config.data.root=DIR --workdir runs/voc_fcn8s
Long, Shelhamer & Darrell, 2015, arXiv:1411.4038, trained as in Shelhamer et al., 2016, arXiv:1605.06211 and the
authors' code (voc-fcn8s-atonce): one whole image a step, no augmentation, momentum 0.99, 300 000 steps at 1e-10 on the
sum over pixels, which is 1.9e-5 on the mean over 375 x 500, twice that for biases; what enlarges stays bilinear.
DIR is VOC2012 as it is downloaded, 21 classes. With SBD: --config.data.train_split=train_aug (docs/data.md).
Starts from ImageNet weights of VGG-16 (`jaxseg list --weights vgg16`; "hed" are others), as the authors' network "at
once" does, which also shrinks what its skips see; their other FCN-8s starts from an FCN-16s, as
jaxseg.models.fcn.warm_start does.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="voc", canvas=(500, 500), crop=(500, 500), batch_size=1)
    c.augment.flip = 0.0
    c.model.update(name="fcn8s", encoder="vgg16", encoder_weights="imagenet")
    c.optim.update(name="sgd", lr=1.9e-5, momentum=0.99, weight_decay=5e-4, schedule="constant")
    c.optim.lr_factors = {"*/bias": 2.0}
    c.optim.freeze = ("head/enlarge_c3", "head/enlarge_c4")
    c.train.steps = 300_000
    c.checkpoint.every = 2000
    c.eval.every = 4000
    return c
