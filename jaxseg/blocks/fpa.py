"""Feature pyramid attention: pixel attention computed at several scales, plus a global pooling branch."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.attention import sow_attention
from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.types import Function
from jaxseg.ops.max_pool import max_pool
from jaxseg.ops.pool import global_avg_pool
from jaxseg.ops.resize import resize_like


def fpa(x: Feature, attention: Function, middle: Function, image: Function) -> Feature:
    """Multiplies `middle(x)` by the pyramid's attention map and adds the global branch `image`.

    Li et al., fig. 3.
    """
    weights = resize_like(attention(x), x, align_corners=True)
    return weights * middle(x) + resize_like(image(global_avg_pool(x)), x, align_corners=True)


def pyramid(
    x: Feature, pool: Function, down: Sequence[Function], across: Sequence[Function], show: Function = lambda x: x
) -> Feature:
    """Pools and filters `x` once per layer of `down`, and adds the filtered scales from coarse to fine.

    The result has the size after the first pooling; `show` is called with it.
    """
    views = []
    for layer in down:
        x = layer(pool(x))
        views.append(x)
    y = across[-1](views[-1])
    for view, layer in zip(reversed(views[:-1]), reversed(across[:-1]), strict=True):
        y = layer(view) + resize_like(y, view, align_corners=True)
    return show(y)


def halve(x: Feature) -> Feature:
    """Pools by the maximum over 2x2 pixels; an odd last row or column is dropped, unless it is the only one.

    >>> halve(jnp.arange(5.0).reshape(1, 1, 5, 1)).ravel().tolist()
    [1.0, 3.0]
    """
    height, width = (max(1, n // 2 * 2) for n in x.shape[1:3])
    return max_pool(x[:, :height, :width], 2)


class FPA(nn.Module):
    """Feature pyramid attention (Li et al., 2018, arXiv:1805.10180, fig. 3).

    As in segmentation_models_pytorch: a pyramid of one channel, a number for every position, halved by max pooling,
    with a ReLU after every convolution; at its deepest scale the second 3x3 convolution replaces the lateral
    one. The pyramid is sown as "attention" to the collection "intermediates", at half the size of `x`.
    """

    features: int
    kernel_sizes: Sequence[int] = (7, 5, 3)  # of the pyramid's scales, from fine to coarse
    conv_bias: bool = False  # in convolutions before BatchNorm: no effect on the output
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        def layer(features, kernel_size, name):
            conv = ConvNormAct(
                features, kernel_size, use_bias=self.conv_bias, dtype=self.dtype, kernel_init=he_uniform, name=name
            )
            return partial(conv, train=train)

        scales = list(enumerate(self.kernel_sizes, start=1))
        attention = partial(
            pyramid,
            pool=halve,
            down=[layer(1, size, f"down{i}") for i, size in scales],
            across=[layer(1, size, f"across{i}") for i, size in scales],
            show=sow_attention(self, lambda x: x),
        )
        return fpa(x, attention, middle=layer(self.features, 1, "middle"), image=layer(self.features, 1, "image"))
