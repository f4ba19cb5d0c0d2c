"""Deep aggregation pyramid pooling: averages over ever larger windows, each filtered together with the one before."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.small_unet import NormActConv
from jaxseg.blocks.types import Function
from jaxseg.ops.pool import global_avg_pool, padded_avg_pool
from jaxseg.ops.resize import resize_like


def dappm(
    x: Feature,
    point: Function,
    scales: Mapping[int | None, Function],
    process: Sequence[Function],
    project: Function,
    shortcut: Function,
) -> Feature:
    """Looks at `x` at every scale, from fine to coarse, and fuses all views.

    Args:
      x: features.
      point: makes the first view, of `x` as it is.
      scales: stride -> what is applied to the averages over windows of 2 * stride + 1 pixels, `stride` apart; None is
        the average over everything.
      process: one function a scale, which gets the sum of that scale and of the view before, and makes the next view.
      project: fuses the views, concatenated.
      shortcut: is applied to `x` and added to the result.
    """
    views = [point(x)]
    for (stride, scale), layer in zip(scales.items(), process, strict=True):
        pooled = global_avg_pool(x) if stride is None else padded_avg_pool(x, 2 * stride + 1, stride)
        views.append(layer(resize_like(scale(pooled), x) + views[-1]))
    return project(jnp.concatenate(views, axis=-1)) + shortcut(x)


class DAPPM(nn.Module):
    """Deep aggregation pyramid pooling module (Hong et al., 2021, arXiv:2101.06085, fig. 5).

    Every layer normalizes, applies ReLU and convolves, in this order, as in the authors' code; there the zeros of the
    padding count in the averages. In training, the average over everything has one value per channel and image: a
    batch of one image is an error.
    """

    features: int
    branch_features: int = 128
    strides: Sequence[int] = (2, 4, 8)  # of the poolings, in pixels of the features
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        def layer(features, kernel_size, name):
            made = NormActConv(features, kernel_size, use_bias=False, dtype=self.dtype, name=name)
            return partial(made, train=train)

        scales = {**{stride: f"scale{stride}" for stride in self.strides}, None: "whole"}
        return dappm(
            x,
            point=layer(self.branch_features, 1, "point"),
            scales={stride: layer(self.branch_features, 1, name) for stride, name in scales.items()},
            process=[layer(self.branch_features, 3, f"{name}_process") for name in scales.values()],
            project=layer(self.features, 1, "project"),
            shortcut=layer(self.features, 1, "shortcut"),
        )
