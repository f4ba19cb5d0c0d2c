"""PAN / ResNet-101 / PASCAL VOC 2012.

jaxseg train voc_pan --config.data.root=DIR --workdir runs/voc_pan
Li et al., 2018, arXiv:1805.10180, section 4: output stride 16, crops of 512 x 512 (here 513 x 513, a multiple of
the stride plus 1), batches of 16, scales 0.5 to 2, poly 0.9 from 4e-3. The paper's text could not be read;
docs/papers.md says what was found in others' code, and what is from memory.
DIR is VOC2012 as it is downloaded, 21 classes. With SBD: --config.data.train_split=train_aug (docs/data.md).
Starts from ImageNet weights, as the paper does: `jaxseg list --weights resnet101`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="voc", canvas=(513, 513), crop=(513, 513), batch_size=16)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(name="pan", encoder="resnet101", encoder_weights="imagenet", dtype="bfloat16")
    c.optim.update(name="sgd", lr=4e-3, momentum=0.9, weight_decay=1e-4, schedule="poly", power=0.9)
    c.train.steps = 30_000
    c.checkpoint.every = 500
    c.eval.every = 1000
    return c
