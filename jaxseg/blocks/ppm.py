"""Pyramid pooling: averages over grids of several sizes, resized and concatenated to the features."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import BatchNorm, ConvNormAct, Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.types import Function
from jaxseg.checks import UserError, check_distinct
from jaxseg.ops.pool import adaptive_avg_pool
from jaxseg.ops.resize import resize_like


def ppm(
    x: Feature,
    bins: Mapping[int, Function],
    project: Function,
    *,
    align_corners: bool = True,
    x_first: bool = False,
) -> Feature:
    """Averages `x` over n x n bins for each n, projects and resizes each average, and fuses all with `x`.

    `x` is concatenated after the averages, or before them with `x_first`: published weights use both orders.
    """
    pooled = [branch(adaptive_avg_pool(x, (n, n))) for n, branch in bins.items()]
    views = [resize_like(view, x, align_corners=align_corners) for view in pooled]
    return project(jnp.concatenate([x, *views] if x_first else [*views, x], axis=-1))


class PPM(nn.Module):
    """Pyramid pooling module (Zhao et al., 2016, arXiv:1612.01105, fig. 3 c).

    The single bin has a bias in place of the normalization, as in segmentation_models_pytorch: one pixel per
    image gives poor batch statistics.
    """

    features: int = 512
    bins: Sequence[int] = (1, 2, 3, 6)
    kernel_size: int = 3  # of the projection: the paper's; segmentation_models_pytorch has 1
    dtype: Any = jnp.float32
    kernel_init: Any = he_uniform

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        def layer(features, kernel_size, name, **options):
            made = ConvNormAct(
                features, kernel_size, dtype=self.dtype, kernel_init=self.kernel_init, name=name, **options
            )
            return partial(made, train=train)

        check_distinct("bins", self.bins, least=1)
        share = x.shape[-1] // len(self.bins)
        if share < 1:
            raise UserError(
                f"Pyramid pooling with {len(self.bins)} bins parts the channels among them and needs as many, got"
                f" features of {x.shape[-1]}. Give fewer `bins`, or an encoder whose level is wider."
            )
        branches = {
            n: layer(share, 1, f"bin{n}", norm=None if n == 1 else BatchNorm, use_bias=n == 1) for n in self.bins
        }
        return ppm(x, branches, project=layer(self.features, self.kernel_size, "project"))
