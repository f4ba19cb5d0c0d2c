"""SegNet: an encoder and its mirror image, which puts features back to where the encoder's maxima were."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Conv
from jaxseg.blocks.initializers import xavier_uniform
from jaxseg.blocks.unpooling import PoolingEncoder, UnpoolingDecoder, mirrored
from jaxseg.checks import UserError
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.models.segmenter import check_images
from jaxseg.variants import Variant


class SegNet(nn.Module):
    """SegNet (Badrinarayanan, Kendall & Cipolla, 2015, arXiv:1511.00561, fig. 2): 29.4 M parameters.

    The encoder is the 13 convolutions of VGG16 (14.7 M parameters) with batch normalization; the decoder is its mirror
    image, whose last convolution gives the scores. `segnet_basic` is that of section 3.1: four blocks of one 7x7
    convolution each way, 64 features throughout, no ReLU in the decoder, and a further 1x1 convolution to the scores.
    Convolutions that are normalized have no bias, which the normalization would take away again (the authors' Caffe
    files have them). Those of `segnet_basic` also normalize the image locally, which is left to the user.

    Outputs: "logits".
    """

    num_classes: int
    widths: Sequence[int] = (64, 128, 256, 512, 512)  # of the encoder's blocks
    convs: Sequence[int] = (2, 2, 3, 3, 3)  # in each block
    kernel_size: int = 3
    basic: bool = False  # the decoder ends with features too, and has no ReLU
    dtype: Any = jnp.float32
    in_channels: int | None = None  # of the images, as for `create_model`
    head_dtype: Any = None  # of the scores; None is `dtype`

    default_encoder = None
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD
    stem = ("encoder", "block1", "conv1", "conv")

    @nn.compact
    def __call__(self, image: Float[ArrayLike, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        image = check_images(self, image, self.in_channels)
        if len(self.widths) != len(self.convs):
            raise UserError(f"widths {tuple(self.widths)} and convs {tuple(self.convs)} have one entry per block each.")
        down = tuple((width,) * count for width, count in zip(self.widths, self.convs, strict=True))
        up = mirrored(self.widths, self.convs)
        if not self.basic:
            up = (up[0][:-1], *up[1:])  # its last convolution is the head
        size = self.kernel_size
        x, memory = PoolingEncoder(down, size, self.dtype, name="encoder")(image, train=train)
        x = UnpoolingDecoder(up, size, not self.basic, self.dtype, name="decoder")(x, memory, train=train)
        dtype = self.head_dtype or self.dtype
        head = partial(Conv, self.num_classes, 1 if self.basic else size, use_bias=True, dtype=dtype)
        return {"logits": head(kernel_init=xavier_uniform, name="head")(x).astype(jnp.float32)}


VARIANTS = {
    "segnet": SegNet,
    "segnet_basic": Variant(SegNet, widths=(64,) * 4, convs=(1,) * 4, kernel_size=7, basic=True),
}
