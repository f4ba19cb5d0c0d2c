"""DeconvNet: VGG16 with its fully connected layers, and its mirror image of unpooling and transposed convolution."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.blocks.conv import BatchNorm, Conv, ConvNormAct, Feature, conv_norm
from jaxseg.blocks.initializers import he_normal, he_normal_in, xavier_uniform
from jaxseg.blocks.types import Function
from jaxseg.blocks.unpooling import PoolingEncoder, UnpoolingDecoder, mirrored
from jaxseg.blocks.upsample import ConvTranspose
from jaxseg.checks import UserError
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.models.segmenter import check_images


def bottleneck(x: Feature, kernel_size: int, layers: Sequence[Function]) -> Feature:
    """Applies `layers`, which shrink a map by kernel_size - 1 pixels and then enlarge it again, to maps of any size.

    A map smaller than the kernel is padded with zeros, and the result cropped to its size.
    """
    _, h, w, _ = x.shape
    below, beside = (max(kernel_size - n, 0) for n in (h, w))
    x = jnp.pad(x, ((0, 0), (0, below), (0, beside), (0, 0)))
    for layer in layers:
        x = layer(x)
    return x[:, :h, :w]


class Bottleneck(nn.Module):
    """Table 2's fc6, fc7 and deconv-fc6: from 7x7 positions to one, and back."""

    features: int = 4096
    kernel_size: int = 7
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        layer = partial(ConvNormAct, padding=0, dtype=self.dtype, kernel_init=he_normal_in)
        back = ConvTranspose(
            x.shape[-1], self.kernel_size, 1, dtype=self.dtype, kernel_init=he_normal, name="deconv6_conv"
        )
        norm = BatchNorm(dtype=self.dtype, name="deconv6_norm")
        layers = [
            partial(layer(self.features, self.kernel_size, name="fc6"), train=train),
            partial(layer(self.features, 1, name="fc7"), train=train),
            lambda x: nn.relu(conv_norm(back, norm, x, train=train)),
        ]
        return bottleneck(x, self.kernel_size, layers)


class DeconvNetDecoder(nn.Module):
    """The bottleneck, then unpooling with the positions of the encoder's maxima."""

    widths: Sequence[Sequence[int]]
    features: int = 4096
    kernel_size: int = 7
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, memory: Sequence[Any], *, train: bool) -> Feature:
        x = Bottleneck(self.features, self.kernel_size, self.dtype, name="bottleneck")(x, train=train)
        return UnpoolingDecoder(self.widths, dtype=self.dtype, name="deconvolution")(x, memory, train=train)


class DeconvNet(nn.Module):
    """Deconvolution network (Noh, Hong & Han, 2015, arXiv:1505.04366, fig. 2 and table 2): 251.8 M parameters.

    With the paper's 224 x 224 pixels fc6 sees one position of 7x7; other sizes get as many as fit. Transposed 3x3
    convolutions at stride 1 are convolutions, and written so. Layers that are normalized have no bias. The paper labels
    object proposals and merges them; here the network sees the image.

    Outputs: "logits".
    """

    num_classes: int
    widths: Sequence[int] = (64, 128, 256, 512, 512)  # of the encoder's blocks
    convs: Sequence[int] = (2, 2, 3, 3, 3)  # in each block
    features: int = 4096  # of fc6 and fc7
    kernel_size: int = 7  # of fc6
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
        x, memory = PoolingEncoder(down, dtype=self.dtype, name="encoder")(image, train=train)
        up = mirrored(self.widths, self.convs)
        decoder = DeconvNetDecoder(up, self.features, self.kernel_size, self.dtype, name="decoder")
        x = decoder(x, memory, train=train)
        dtype = self.head_dtype or self.dtype
        head = Conv(self.num_classes, 1, use_bias=True, dtype=dtype, kernel_init=xavier_uniform, name="head")
        return {"logits": head(x).astype(jnp.float32)}


VARIANTS = {"deconvnet": DeconvNet}
