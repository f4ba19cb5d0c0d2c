"""SegNet / CamVid, 11 classes.

jaxseg train camvid_segnet --config.data.root=DIR --workdir runs/camvid_segnet
Badrinarayanan, Kendall & Cipolla, 2015, arXiv:1511.00561, section 3.1: whole images of 360 x 480, batches of 12,
rate 0.1, momentum 0.9, no augmentation. Classes weigh the median of the frequencies through their own, in the numbers
of the authors' segnet_train.prototxt. The paper evens out the images' contrast first, and trains until the loss stays.
DIR is CamVid in SegNet's form (train, trainannot, val, valannot), images of 360 x 480.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="camvid", canvas=(360, 480), crop=(360, 480), batch_size=12)
    c.augment.flip = 0.0
    c.model.update(name="segnet")
    weights = (0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614)  # sky first
    c.loss.options = {"cross_entropy": {"class_weights": weights}}
    c.optim.update(name="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4, schedule="constant")
    c.train.steps = 20_000
    c.checkpoint.every = 500
    c.eval.every = 500
    return c
