"""PSPNet / ResNet-101 / Cityscapes.

jaxseg train cityscapes_pspnet --config.data.root=DIR --workdir runs/cityscapes_pspnet
Zhao et al., 2016, arXiv:1612.01105, section 5.1: batches of 16, scales 0.5 to 2, auxiliary loss 0.4, poly 0.9 from
0.01, 90 000 steps; crops of 713 x 713, and ten times the rate beyond the encoder, as in the authors' semseg, which also
turns and blurs, as the paper does for its other data sets only.
DIR is Cityscapes as it is downloaded, with leftImg8bit and gtFine: 19 classes, images of 1024 x 2048.
Starts from ImageNet weights, as the paper does: `jaxseg list --weights resnet101`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="cityscapes", canvas=(1024, 2048), crop=(713, 713), batch_size=16)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(name="pspnet", encoder="resnet101", encoder_weights="imagenet", output_stride=8, dtype="bfloat16")
    c.model.options = {"auxiliary": True}
    c.loss.heads = {"logits": 1.0, "auxiliary": 0.4}
    c.optim.update(name="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4, schedule="poly", power=0.9)
    c.optim.lr_factors = {"decoder": 10.0, "head": 10.0, "auxiliary": 10.0}
    c.train.steps = 90_000
    c.checkpoint.every = 1000
    c.eval.every = 5000
    c.eval.batch_size = 2
    return c
