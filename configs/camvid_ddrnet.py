"""DDRNet-23-slim / CamVid, 11 classes, from random weights: the 15-epoch recipe of camvid_fpn_lite0.py.

jaxseg train camvid_ddrnet --config.data.root=DIR --workdir runs/camvid_ddrnet
Unlike there nothing is pretrained: a warm-up, twice the rate, and the paper's auxiliary loss of 0.4 (Hong et al., 2021,
arXiv:2101.06085). DIR is CamVid in SegNet's form (train, trainannot, val, valannot), images of 360 x 480;
for the folder of camvid_fpn_lite0.py, which has the same images, --config.data.name=folder.
Measured: val mIoU 0.454 at its last and best epoch, still rising, seed 0; 10 min 40 s in all, 10.3 images/s, on 2 idle
CPU cores (AMD EPYC), jax 0.12.0, 2026-11-27, commit c3ffed7. Rate and warm-up were not tuned.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="camvid", canvas=(360, 480), crop=(320, 320), batch_size=8)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.model.update(name="ddrnet")
    c.loss.terms = {"cross_entropy": 1.0}
    c.loss.heads = {"logits": 1.0, "auxiliary": 0.4}
    c.optim.update(lr=2e-3, warmup_steps=45, weight_decay=1e-4, schedule="poly", power=0.9)
    c.train.epochs = 15
    c.checkpoint.every = 45
    return c
