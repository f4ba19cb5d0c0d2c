"""Channel and spatial attention: squeeze-and-excitation and scSE."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Conv, Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.types import Function
from jaxseg.ops.pool import global_avg_pool


def channel_weights(
    x: Feature,
    squeeze: Function,
    excite: Function,
    gate: Function = nn.sigmoid,
    activation: Function = nn.relu,
) -> Float[Array, "b 1 1 c"]:
    """Returns one weight per channel of `x`, computed from the channels' global averages."""
    return gate(excite(activation(squeeze(global_avg_pool(x)))))


def squeeze_excite(
    x: Feature,
    squeeze: Function,
    excite: Function,
    gate: Function = nn.sigmoid,
    activation: Function = nn.relu,
) -> Feature:
    """Scales every channel of `x` by its weight, see `channel_weights`."""
    return x * channel_weights(x, squeeze, excite, gate, activation)


def scse(x: Feature, channel: Function, spatial: Function, gate: Function = nn.sigmoid) -> Feature:
    """Returns the sum of `x` scaled by channel and `x` scaled by position."""
    return channel(x) + x * gate(spatial(x))


def sow_attention(module: nn.Module, gate: Function = nn.sigmoid) -> Function:
    """Wraps `gate` so that its output is also sown to `module`'s `intermediates/attention`.

    Apply the model with `mutable=["intermediates"]` to get it, at the module's path.
    """

    def keep(x):
        weights = gate(x)
        module.sow("intermediates", "attention", weights)
        return weights

    return keep


class ChannelWeights(nn.Module):
    """The channel weights of squeeze-and-excitation (Hu et al., 2017, arXiv:1709.01507, figs. 1 and 2)."""

    reduction: int = 16  # of the channels between squeeze and excitation; at least one is left
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature) -> Float[Array, "b 1 1 c"]:
        return channel_weights(x, *_squeeze_and_excite(self, x.shape[-1]), gate=sow_attention(self))


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (Hu et al., 2017, arXiv:1709.01507, figs. 1 and 2)."""

    reduction: int = 16  # of the channels between squeeze and excitation; at least one is left
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature) -> Feature:
        return squeeze_excite(x, *_squeeze_and_excite(self, x.shape[-1]), gate=sow_attention(self))


def _squeeze_and_excite(module: ChannelWeights | SqueezeExcite, channels: int) -> tuple[Conv, Conv]:
    def layer(features, name):
        return Conv(features, 1, use_bias=True, dtype=module.dtype, kernel_init=he_uniform, name=name)

    return layer(max(1, channels // module.reduction), "squeeze"), layer(channels, "excite")


class SCSE(nn.Module):
    """Concurrent spatial and channel squeeze and excitation (Roy et al., 2018, arXiv:1803.02579, fig. 1)."""

    reduction: int = 16
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature) -> Feature:
        spatial = Conv(1, 1, use_bias=True, dtype=self.dtype, kernel_init=he_uniform, name="spatial")
        return scse(
            x, SqueezeExcite(self.reduction, dtype=self.dtype, name="channel"), spatial, gate=sow_attention(self)
        )


ATTENTION = {"se": SqueezeExcite, "scse": SCSE}
