"""U-Net decoder blocks: upsample step by step and concatenate the encoder's features."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.attention import ATTENTION
from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.checks import lookup

Block = Callable[[Feature, Feature | None], Feature]


def climb(
    x: Feature,
    skips: Sequence[Feature | None],
    sizes: Sequence[tuple[int, int]],
    upsamples: Sequence[Callable[[Feature, tuple[int, int]], Feature]],
    blocks: Sequence[Block],
) -> Feature:
    """Upsamples `x` step by step; at each size a block gets it and the encoder's features of that size."""
    for skip, size, upsample, block in zip(skips, sizes, upsamples, blocks, strict=True):
        x = block(upsample(x, size), skip)
    return x


class UNetBlock(nn.Module):
    """Two convolutions on `x` and the encoder's features, with optional attention before and after."""

    features: int
    attention: str | None = None
    attend_before: bool = True  # the block at the image's own size, which no encoder's features join, does not
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, skip: Feature | None, *, train: bool) -> Feature:
        def attend(name):
            if self.attention is None:
                return lambda x: x
            return lookup(ATTENTION, self.attention, "attention")(dtype=self.dtype, name=name)

        if skip is not None:
            x = jnp.concatenate([x, skip], axis=-1)
        if self.attend_before:
            x = attend("attention1")(x)
        for name in ("conv1", "conv2"):
            layer = ConvNormAct(self.features, dtype=self.dtype, kernel_init=he_uniform, name=name)
            x = layer(x, train=train)
        return attend("attention2")(x)
