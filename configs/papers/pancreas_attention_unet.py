"""Attention U-Net / pancreas and spleen in slices of CT (TCIA Pancreas-CT or CT-150).

jaxseg train pancreas_attention_unet --config.data.root=DIR --workdir runs/pancreas
Oktay et al., 2018, arXiv:1804.03999, section 3: Dice, Adam, and a U-Net of 16 to 256 channels. Rate, decay, epochs and
augmentation are those of the authors' code: the rate halves every 250 epochs. There, images are also shifted, and every
level has a head. The paper's inputs are volumes resampled to 2 mm, two a step; here slices of them.
DIR holds {train,val}/{images,labels} and classes.json: background, organs.
Measured: not yet run.
"""

from jaxseg.config import default_config


def get_config():
    c = default_config()
    c.data.update(name="folder", canvas=(160, 160), crop=(160, 160), batch_size=16)
    c.data.resize.size = (160, 160)  # slices are stored as 512 x 512
    c.augment.update(scale=(0.7, 1.3), flip=0.5, flip_vertical=0.5, rotate=15.0)
    c.model.update(name="attention_unet", encoder="plain")
    c.model.encoder_options = {"widths": (16, 32, 64, 128, 256)}
    c.model.options = {"decoder_channels": (128, 64, 32, 16, 16)}
    c.loss.terms = {"dice": 1.0}
    c.optim.update(lr=1e-4, weight_decay=1e-6, schedule="steps", drops=(0.25, 0.5, 0.75), drop_factor=0.5)
    c.train.epochs = 1000
    c.checkpoint.every = 500
    return c
