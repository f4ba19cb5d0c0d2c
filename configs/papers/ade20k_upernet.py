"""UPerNet / ResNet-50 / ADE20K.

jaxseg train ade20k_upernet --config.data.root=DIR --workdir runs/ade20k_upernet
Xiao et al., 2018, arXiv:1807.10221, as the authors' semantic-segmentation-pytorch trains it: shorter sides of 300 to
600 pixels, evaluation at 450, poly 0.9 from 0.02, batches of 16, 150 000 steps. There a batch shows its images
whole, each batch at a size of its own; here crops of 512 x 512.
DIR is ADEChallengeData2016 as it is downloaded, 150 classes.
Starts from ImageNet weights, as the paper does: `jaxseg list --weights resnet50`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="ade20k", canvas=(768, 768), crop=(512, 512), batch_size=16)
    c.data.resize.short_side = 450
    c.augment.update(scale=(2 / 3, 4 / 3), flip=0.5)
    c.model.update(name="upernet", encoder="resnet50", encoder_weights="imagenet", dtype="bfloat16")
    c.optim.update(name="sgd", lr=0.02, momentum=0.9, weight_decay=1e-4, schedule="poly", power=0.9)
    c.train.steps = 150_000
    c.checkpoint.every = 1000
    c.eval.every = 5000
    return c
