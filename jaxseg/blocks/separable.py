"""Depthwise separable convolution: a depthwise convolution followed by a 1x1 convolution."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import Activation, BatchNorm, Conv, Feature, conv_norm
from jaxseg.blocks.initializers import he_normal
from jaxseg.blocks.types import Function


def separable(x: Feature, depthwise: Function, pointwise: Function) -> Feature:
    """Applies a depthwise and then a 1x1 convolution, with nothing in between."""
    return pointwise(depthwise(x))


class SeparableConvNormAct(nn.Module):
    """Atrous separable convolution, normalization, activation (Chen et al., 2018, arXiv:1802.02611, fig. 3)."""

    features: int
    kernel_size: int = 3
    dilation: int = 1
    activation: Activation | None = nn.relu
    norm: Any = BatchNorm
    dtype: Any = jnp.float32
    kernel_init: Any = he_normal

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        def layer(features, kernel_size, name, **options):
            return Conv(features, kernel_size, dtype=self.dtype, kernel_init=self.kernel_init, name=name, **options)

        channels = x.shape[-1]
        depthwise = layer(channels, self.kernel_size, "depthwise", dilation=self.dilation, groups=channels)
        pointwise = layer(self.features, 1, "pointwise")
        norm = None if self.norm is None else self.norm(dtype=self.dtype, name="norm")
        x = separable(x, depthwise, pointwise=lambda x: conv_norm(pointwise, norm, x, train=train))
        return x if self.activation is None else self.activation(x)
