"""SegNet: an encoder and its mirror image, which puts features back to where the encoder's maxima were."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int8

from jaxseg.blocks.conv import Conv, ConvNormAct, Feature
from jaxseg.blocks.initializers import he_normal_in, xavier_uniform
from jaxseg.checks import UserError
from jaxseg.ops.upsample import max_pool_with_positions, max_unpool

Function = Callable[[Feature], Feature]


class Pooled(NamedTuple):
    """What a pooling forgets and an unpooling needs."""

    positions: Int8[Array, "b h w c"]  # of the maxima within their windows
    size: tuple[int, int]  # (height, width) before, in pixels


def pool_down(x: Feature, blocks: Sequence[Function]) -> tuple[Feature, list[Pooled]]:
    """Halves the size after every block, and remembers where the maxima were."""
    memory = []
    for block in blocks:
        x = block(x)
        pooled, positions = max_pool_with_positions(x)
        memory.append(Pooled(positions, x.shape[1:3]))
        x = pooled
    return x, memory


def unpool_up(x: Feature, memory: Sequence[Pooled], blocks: Sequence[Function]) -> Feature:
    """Doubles the size before every block, to the positions of the pooling at the same depth; deepest first."""
    for block, pooled in zip(blocks, reversed(memory), strict=True):
        x = block(max_unpool(x, pooled.positions, pooled.size))
    return x


class Convs(nn.Module):
    """Convolutions to the given widths, each with batch normalisation and (or not) ReLU."""

    widths: Sequence[int]
    kernel_size: int = 3
    relu: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        activation = nn.relu if self.relu else None
        layer = partial(ConvNormAct, kernel_size=self.kernel_size, activation=activation, kernel_init=he_normal_in)
        for i, width in enumerate(self.widths, start=1):
            x = layer(width, dtype=self.dtype, name=f"conv{i}")(x, train=train)
        return x


class PoolingEncoder(nn.Module):
    """Blocks of convolutions, each followed by a 2x2 max pooling whose positions are kept."""

    widths: Sequence[Sequence[int]]  # of every convolution, block by block
    kernel_size: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> tuple[Feature, list[Pooled]]:
        def block(number, widths):
            convs = Convs(widths, self.kernel_size, dtype=self.dtype, name=f"block{number}")
            return partial(convs, train=train)

        return pool_down(x, [block(*numbered) for numbered in enumerate(self.widths, start=1)])


class UnpoolingDecoder(nn.Module):
    """Unpooling and a block of convolutions in turn, from the deepest block to the first."""

    widths: Sequence[Sequence[int]]  # of every convolution, block by block from the finest
    kernel_size: int = 3
    relu: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, memory: Sequence[Pooled], *, train: bool) -> Feature:
        def block(number, widths):
            convs = Convs(widths, self.kernel_size, self.relu, self.dtype, name=f"block{number}")
            return partial(convs, train=train)

        blocks = [block(*numbered) for numbered in enumerate(self.widths, start=1)]
        return unpool_up(x, memory, blocks[::-1])


def mirrored(widths: Sequence[int], convs: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The widths of a decoder's convolutions, block by block from the finest: the encoder's, turned round.

    >>> mirrored((64, 128, 256), (2, 2, 3))
    ((64, 64), (128, 64), (256, 256, 128))
    """
    before = (widths[0], *widths[:-1])
    return tuple((width,) * (n - 1) + (last,) for width, n, last in zip(widths, convs, before, strict=True))


class SegNet(nn.Module):
    """SegNet (Badrinarayanan, Kendall & Cipolla, 2015, arXiv:1511.00561, fig. 2): 29.4 M parameters.

    The encoder is the 13 convolutions of VGG16 (14.7 M parameters) with batch normalisation; the decoder is its mirror
    image, whose last convolution gives the scores. `segnet_basic` is that of section 3.1: four blocks of one 7x7
    convolution each way, 64 features throughout, no ReLU in the decoder, and a further 1x1 convolution to the scores.
    Convolutions that are normalised have no bias, which the normalisation would take away again (the authors' Caffe
    files have them). Those of `segnet_basic` also normalise the picture locally, which is left to the user.

    Outputs: "logits".
    """

    num_classes: int
    widths: Sequence[int] = (64, 128, 256, 512, 512)  # of the encoder's blocks
    convs: Sequence[int] = (2, 2, 3, 3, 3)  # in each block
    kernel_size: int = 3
    basic: bool = False  # the decoder ends with features too, and has no ReLU
    dtype: Any = jnp.float32

    default_encoder = None
    pixel_mean = (123.675, 116.28, 103.53)
    pixel_std = (58.395, 57.12, 57.375)

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        if len(self.widths) != len(self.convs):
            raise UserError(f"widths {tuple(self.widths)} and convs {tuple(self.convs)} have one entry a block each.")
        down = tuple((width,) * count for width, count in zip(self.widths, self.convs, strict=True))
        up = mirrored(self.widths, self.convs)
        if not self.basic:
            up = (up[0][:-1], *up[1:])  # its last convolution is the head
        size = self.kernel_size
        x, memory = PoolingEncoder(down, size, self.dtype, name="encoder")(image, train=train)
        x = UnpoolingDecoder(up, size, not self.basic, self.dtype, name="decoder")(x, memory, train=train)
        head = partial(Conv, self.num_classes, 1 if self.basic else size, use_bias=True, dtype=self.dtype)
        return {"logits": head(kernel_init=xavier_uniform, name="head")(x).astype(jnp.float32)}


VARIANTS = {
    "segnet": SegNet,
    "segnet_basic": partial(SegNet, widths=(64,) * 4, convs=(1,) * 4, kernel_size=7, basic=True),
}
