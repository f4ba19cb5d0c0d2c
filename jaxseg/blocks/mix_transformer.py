"""The two parts of SegFormer's transformer block: attention with fewer keys, and a convolutional feed-forward net."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import Conv, ConvNormAct, Feature
from jaxseg.blocks.initializers import he_normal_in, small_normal
from jaxseg.blocks.layer_norm import LayerNorm
from jaxseg.blocks.types import Function
from jaxseg.ops.activations import gelu
from jaxseg.ops.attention import dot_product_attention


def efficient_attention(
    x: Feature, query: Function, reduce: Function, key_value: Function, project: Function, *, heads: int
) -> Feature:
    """Every position of `x` attends to a reduced copy of `x`; the first half of `key_value`'s channels are keys."""
    batch, height, width, channels = x.shape

    def tokens(x):
        return x.reshape(batch, -1, x.shape[-1])

    key, value = jnp.split(tokens(key_value(reduce(x))), 2, axis=-1)
    y = dot_product_attention(tokens(query(x)), key, value, heads=heads)
    return project(y.reshape(batch, height, width, channels))


def mix_ffn(x: Feature, expand: Function, mix: Function, project: Function) -> Feature:
    """A feed-forward net with a depthwise convolution in its hidden layer, which replaces positional encodings."""
    return project(gelu(mix(expand(x))))


class EfficientAttention(nn.Module):
    """Efficient self-attention (Xie et al., 2021, arXiv:2105.15203, section 3.1, eq. 2).

    Keys and values come from patches of `ratio` x `ratio` positions. As in the published weights, a strided
    convolution with a layer normalization computes them, where equation 2 reshapes. Incomplete patches at the bottom
    and right are dropped; a map smaller than a patch is padded with zeros.
    With `dilation` above 1 the patches overlap and are dilated instead of strided, as in
    segmentation_models_pytorch for encoders with a smaller output stride.
    """

    heads: int
    ratio: int = 1  # side of a patch, in positions
    dilation: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        channels = x.shape[-1]

        def layer(features, name):
            return Conv(features, 1, use_bias=True, dtype=self.dtype, kernel_init=small_normal, name=name)

        def reduce(x):
            if self.ratio == 1:
                return x
            patches = ConvNormAct(
                channels,
                self.ratio,
                stride=self.ratio if self.dilation == 1 else 1,
                dilation=self.dilation,
                padding=self._padding(x.shape[1:3]),
                activation=None,
                use_bias=True,
                norm=LayerNorm,
                dtype=self.dtype,
                name="reduce",
            )
            return patches(x, train=train)

        return efficient_attention(
            x,
            query=layer(channels, "query"),
            reduce=reduce,
            key_value=layer(2 * channels, "key_value"),
            project=layer(channels, "project"),
            heads=self.heads,
        )

    def _padding(self, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        if self.dilation > 1:
            return ((self.ratio // 2 * self.dilation,) * 2,) * 2
        return tuple((0, max(0, self.ratio - n)) for n in size)


class MixFFN(nn.Module):
    """Mix-FFN (Xie et al., 2021, arXiv:2105.15203, section 3.1, eq. 3), which replaces positional encodings."""

    expansion: int = 4
    dilation: int = 1  # of the depthwise convolution
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature) -> Feature:
        channels, hidden = x.shape[-1], self.expansion * x.shape[-1]
        layer = partial(Conv, use_bias=True, dtype=self.dtype)
        return mix_ffn(
            x,
            expand=layer(hidden, 1, kernel_init=small_normal, name="expand"),
            mix=layer(hidden, 3, dilation=self.dilation, groups=hidden, kernel_init=he_normal_in, name="depthwise"),
            project=layer(channels, 1, kernel_init=small_normal, name="project"),
        )
