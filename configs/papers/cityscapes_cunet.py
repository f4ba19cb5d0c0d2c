"""CU-Net, four coupled U-Nets, a loss at each / Cityscapes.

jaxseg train cityscapes_cunet --config.data.root=DIR --workdir runs/cityscapes_cunet
Tang et al., 2018, arXiv:1808.06521; the paper finds landmarks of bodies and faces, so data and schedule are ours. Rate,
no weight decay and equal weights of the losses are those of the authors' code, whose RMSProp is AdamW here.
DIR is Cityscapes as it is downloaded, with leftImg8bit and gtFine: 19 classes, images of 1024 x 2048.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="cityscapes", canvas=(512, 1024), crop=(512, 512), batch_size=16)
    c.data.resize.factor = 0.5
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(name="cunet", dtype="bfloat16")
    c.loss.heads = {"logits": 1.0, "stage1": 1.0, "stage2": 1.0, "stage3": 1.0}
    c.optim.update(lr=2.5e-4, weight_decay=0.0, schedule="poly", power=0.9)
    c.train.steps = 60_000
    c.checkpoint.every = 1000
    c.eval.every = 5000
    c.eval.batch_size = 4
    return c
