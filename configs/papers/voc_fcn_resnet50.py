"""FCN / dilated ResNet-50 / PASCAL VOC 2012, as torchvision trains it.

jaxseg train voc_fcn_resnet50 --config.data.root=DIR --workdir runs/voc_fcn_resnet50
Long et al., 2015, arXiv:1411.4038, on the encoder of Chen et al., 2017, arXiv:1706.05587; auxiliary loss and schedule
are those of torchvision's reference scripts: shorter sides of 260 to 1040 pixels, evaluation at 520, batches of 8 at
0.01, ten times that for the auxiliary head. Its own weights are of COCO's images, in batches of 32 at 0.02.
DIR is VOC2012 as it is downloaded, 21 classes. With SBD: --config.data.train_split=train_aug (docs/data.md).
Starts from ImageNet weights, as torchvision does: `jaxseg list --weights resnet50`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="voc", canvas=(700, 700), crop=(480, 480), batch_size=8)
    c.data.resize.short_side = 520
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(name="fcn", encoder="resnet50", encoder_weights="imagenet")
    c.model.options = {"auxiliary": True}
    c.loss.heads = {"logits": 1.0, "auxiliary": 0.5}
    c.optim.update(name="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4, schedule="poly")
    c.optim.lr_factors = {"auxiliary": 10.0}
    c.train.epochs = 30
    c.checkpoint.every = 500
    return c
