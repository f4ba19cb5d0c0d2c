"""Atrous spatial pyramid pooling: one feature map seen at several scales at once."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.initializers import pytorch_uniform
from jaxseg.blocks.separable import SeparableConvNormAct
from jaxseg.ops.pool import global_avg_pool
from jaxseg.ops.resize import resize_like

Function = Callable[[Feature], Feature]


def aspp(x: Feature, branches: Sequence[Function], image: Function, project: Function) -> Feature:
    """Looks at `x` through every branch and once as a whole, and projects the views together."""
    whole = image(global_avg_pool(x))
    views = [branch(x) for branch in branches] + [resize_like(whole, x)]
    return project(jnp.concatenate(views, axis=-1))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling, DeepLabV3's (Chen et al., 2017, arXiv:1706.05587, fig. 5).

    With `separable`, the atrous convolutions are depthwise separable, as in DeepLabV3+ (arXiv:1802.02611).
    """

    features: int = 256
    rates: Sequence[int] = (6, 12, 18)  # in pixels of the feature map
    separable: bool = False
    dtype: Any = jnp.float32
    kernel_init: Any = pytorch_uniform

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        def layer(kind, kernel_size, rate, name):
            made = kind(
                self.features, kernel_size, rate=rate, dtype=self.dtype, kernel_init=self.kernel_init, name=name
            )
            return partial(made, train=train)

        atrous = SeparableConvNormAct if self.separable else ConvNormAct
        return aspp(
            x,
            branches=[layer(ConvNormAct, 1, 1, "point")] + [layer(atrous, 3, r, f"rate{r}") for r in self.rates],
            image=layer(ConvNormAct, 1, 1, "image"),
            project=layer(ConvNormAct, 1, 1, "project"),
        )
