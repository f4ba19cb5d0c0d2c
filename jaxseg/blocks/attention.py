"""Attention that recalibrates a feature map: squeeze-and-excitation and its spatial companion."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import Conv, Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.ops.pool import global_avg_pool

Function = Callable[[Feature], Feature]


def squeeze_excite(x: Feature, squeeze: Function, excite: Function) -> Feature:
    """Scales every channel of `x` by what its global averages, squeezed and excited, say of it."""
    return x * nn.sigmoid(excite(nn.relu(squeeze(global_avg_pool(x)))))


def scse(x: Feature, channel: Function, spatial: Function) -> Feature:
    """Recalibrates `x` by channel and by position, and adds the two."""
    return channel(x) + x * nn.sigmoid(spatial(x))


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (Hu et al., 2017, arXiv:1709.01507, fig. 2)."""

    reduction: int = 16  # of the channels between squeeze and excitation; at least one is left
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature) -> Feature:
        def layer(features, name):
            return Conv(features, 1, use_bias=True, dtype=self.dtype, kernel_init=he_uniform, name=name)

        channels = x.shape[-1]
        squeeze = layer(max(1, channels // self.reduction), "squeeze")
        return squeeze_excite(x, squeeze, excite=layer(channels, "excite"))


class SCSE(nn.Module):
    """Concurrent spatial and channel squeeze and excitation (Roy et al., 2018, arXiv:1803.02579, fig. 1)."""

    reduction: int = 16
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature) -> Feature:
        spatial = Conv(1, 1, use_bias=True, dtype=self.dtype, kernel_init=he_uniform, name="spatial")
        return scse(x, SqueezeExcite(self.reduction, dtype=self.dtype, name="channel"), spatial)


ATTENTION = {"se": SqueezeExcite, "scse": SCSE}
