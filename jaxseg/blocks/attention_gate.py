"""Attention gate: weights for the pixels of a skip, computed from coarser features."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.attention import sow_attention
from jaxseg.blocks.conv import Conv, Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.types import Function
from jaxseg.ops.resize import resize_like


def attention_gate(
    skip: Feature,
    signal: Feature,
    key: Function,
    query: Function,
    weigh: Function,
    activation: Function = nn.relu,
    gate: Function = nn.sigmoid,
) -> Feature:
    """Multiplies `skip` by a weight per position, computed from `skip` and the coarser `signal` (Oktay et al., fig. 2).

    Args:
      skip: the encoder's features, of any size.
      signal: the decoder's, of any size.
      key: applied to `skip`, W_x in the paper; may reduce its size, and the sum is computed at that size.
      query: applied to `signal`, W_g in the paper; returns as many channels as `key`.
      weigh: applied to the activated sum, psi in the paper; returns one map.
      activation: between the sum and `weigh`.
      gate: turns that map into weights, which are then resized to the size of `skip`.
    """
    keys = key(skip)
    weights = gate(weigh(activation(keys + resize_like(query(signal), keys))))
    return skip * resize_like(weights, skip)


class AttentionGate(nn.Module):
    """Additive attention gate (Oktay et al., 2018, arXiv:1804.03999, fig. 2, eqs. 1 and 2).

    As in the authors' code, a 2x2 convolution of stride 2 takes the skip to the signal's size; here the last row and
    column of an odd size are padded with zeros. The weights, one map at half the skip's size, are sown as "attention"
    to the collection "intermediates". That code also filters and normalizes the gated features, which the figure
    does not show.
    """

    features: int | None = None  # of the sum; None is the number of the skip's channels, as in the authors' code
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, skip: Feature, signal: Feature) -> Feature:
        def conv(features, name, **options):
            return Conv(features, dtype=self.dtype, kernel_init=he_uniform, name=name, **options)

        _, height, width, channels = skip.shape
        features = channels if self.features is None else self.features
        return attention_gate(
            skip,
            signal,
            key=conv(features, "key", kernel_size=2, stride=2, padding=((0, height % 2), (0, width % 2))),
            query=conv(features, "query", kernel_size=1, use_bias=True),
            weigh=conv(1, "weigh", kernel_size=1, use_bias=True),
            gate=sow_attention(self),
        )
