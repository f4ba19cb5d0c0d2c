"""SegFormer / MiT-B0 / ADE20K.

jaxseg train ade20k_segformer --config.data.root=DIR --workdir runs/ade20k_segformer
Xie et al., 2021, arXiv:2105.15203, section 4.1, with what the authors' code adds: AdamW from 6e-5, ten times that for
the decoder, poly 1.0 after 1500 steps of warm-up, batches of 16, crops of 512 x 512, scales 0.5 to 2, changes of color,
drop path 0.1, 160 000 steps. There a color changes in half of the images, here in all; and the decoder drops out 0.1.
DIR is ADEChallengeData2016 as it is downloaded, 150 classes.
Starts from ImageNet weights, as the paper does: `jaxseg list --weights mit_b0`.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="ade20k", canvas=(683, 683), crop=(512, 512), batch_size=16)
    c.data.resize.short_side = 512
    c.augment.update(scale=(0.5, 2.0), flip=0.5, brightness=0.125, contrast=0.5, saturation=0.5, hue=0.1)
    c.model.update(name="segformer", encoder="mit_b0", encoder_weights="imagenet", dtype="bfloat16")
    c.model.encoder_options = {"drop_path": 0.1}
    c.optim.update(lr=6e-4, encoder_lr_factor=0.1, weight_decay=0.01, schedule="poly", power=1.0, warmup_steps=1500)
    c.train.steps = 160_000
    c.checkpoint.every = 1000
    c.eval.every = 16_000
    return c
