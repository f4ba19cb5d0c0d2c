"""Attention to scale: at every pixel, a weight for each scale of the same image."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Conv, Feature
from jaxseg.blocks.initializers import he_uniform, xavier_uniform
from jaxseg.blocks.types import Function
from jaxseg.ops.resize import resize_like


def scale_attention(
    scores: Sequence[Feature], features: Sequence[Feature], attend: Function
) -> tuple[Feature, Float[Array, "b h w s"]]:
    """Averages `scores` with weights that `attend` computes from `features`; returns the average and the weights.

    Args:
      scores: one map per scale, all of one size.
      features: one map per scale, of any sizes; all are resized to the first one's size.
      attend: function from the concatenated features to one map per scale; the weights are its softmax, resized.
    """
    joined = jnp.concatenate([resize_like(x, features[0]) for x in features], axis=-1)
    weights = jax.nn.softmax(attend(joined).astype(jnp.float32), axis=-1)
    weights = resize_like(weights, scores[0], align_corners=True)
    merged = [x * weights[..., i : i + 1] for i, x in enumerate(scores)]
    return sum(merged[1:], start=merged[0]), weights


class ScaleAttention(nn.Module):
    """Attention to scale (Chen et al., 2015, arXiv:1511.03339): a 3x3 convolution, ReLU and a 1x1 one.

    The weights, one map per scale, are sown as "attention" to the collection "intermediates".
    """

    features: int = 512
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, scores: Sequence[Feature], features: Sequence[Feature]) -> Feature:
        def conv(features, kernel_size, kernel_init, name):
            return Conv(features, kernel_size, use_bias=True, dtype=self.dtype, kernel_init=kernel_init, name=name)

        hidden = conv(self.features, 3, he_uniform, "conv")
        weigh = conv(len(scores), 1, xavier_uniform, "weights")
        merged, weights = scale_attention(scores, features, lambda x: weigh(nn.relu(hidden(x))))
        self.sow("intermediates", "attention", weights)
        return merged
