"""Max pooling that returns the positions of the maxima, and unpooling that puts features back there."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Int8

from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.initializers import he_normal_in
from jaxseg.blocks.types import Function
from jaxseg.ops.upsample import max_pool_with_positions, max_unpool


class Pooled(NamedTuple):
    """Positions and size of a pooling, which its unpooling needs."""

    positions: Int8[Array, "b h w c"]  # of the maxima within their windows
    size: tuple[int, int]  # (height, width) before, in pixels


def pool_down(x: Feature, blocks: Sequence[Function]) -> tuple[Feature, list[Pooled]]:
    """Applies each block, then 2x2 max pooling; also returns the positions of the maxima."""
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
    """Convolutions with the given numbers of channels, each with batch normalization and optionally ReLU."""

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
    """Numbers of channels of the decoder's convolutions, block by block from the finest: the encoder's in reverse.

    >>> mirrored((64, 128, 256), (2, 2, 3))
    ((64, 64), (128, 64), (256, 256, 128))
    """
    before = (widths[0], *widths[:-1])
    return tuple((width,) * (n - 1) + (last,) for width, n, last in zip(widths, convs, before, strict=True))
