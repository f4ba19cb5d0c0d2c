"""DeconvNet / PASCAL VOC 2012.

jaxseg train voc_deconvnet --config.data.root=DIR --workdir runs/voc_deconvnet
Noh, Hong & Han, 2015, arXiv:1505.04366, section 4, and the authors' solver: crops of 224 x 224, batches of 64, momentum
0.9, rate 0.01, a tenth after every 10 000 of 40 000 steps.
DIR is VOC2012 as it is downloaded, 21 classes. With SBD: --config.data.train_split=train_aug (docs/data.md).
The paper trains on crops around objects first; this is the second of its two stages. There, windows are proposals of
objects, brought to 250 x 250, and the first half starts from VGG-16; here, parts of images at scales 0.5 to 1.5, and
random weights.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="voc", canvas=(500, 500), crop=(224, 224), batch_size=64)
    c.augment.update(scale=(0.5, 1.5), flip=0.5)
    c.model.update(name="deconvnet")
    c.optim.update(name="sgd", lr=0.01, momentum=0.9, weight_decay=5e-4)
    c.optim.update(schedule="steps", drops=(0.25, 0.5, 0.75), drop_factor=0.1)
    c.train.steps = 40_000
    c.checkpoint.every = 1000
    c.eval.every = 2000
    return c
