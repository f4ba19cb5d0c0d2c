"""Atrous spatial pyramid pooling: parallel convolutions of one feature map with different dilations."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import Conv, ConvNormAct, Feature
from jaxseg.blocks.initializers import he_uniform, pytorch_uniform, xavier_uniform
from jaxseg.blocks.separable import SeparableConvNormAct
from jaxseg.blocks.types import Function
from jaxseg.checks import UserError, check_distinct
from jaxseg.ops.pool import global_avg_pool
from jaxseg.ops.resize import resize_like


def aspp(x: Feature, branches: Sequence[Function], image: Function, project: Function) -> Feature:
    """Applies every branch and a global pooling branch to `x`, concatenates the results and projects them."""
    pooled = image(global_avg_pool(x))
    views = [branch(x) for branch in branches] + [resize_like(pooled, x)]
    return project(jnp.concatenate(views, axis=-1))


def aspp_sum(x: Feature, branches: Sequence[Function]) -> Feature:
    """Returns the sum of the scores of all branches, which differ in their field of view."""
    scores = [branch(x) for branch in branches]
    return sum(scores[1:], start=scores[0])


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
        check_distinct("rates", self.rates)

        def layer(kind, kernel_size, dilation, name):
            made = kind(
                self.features, kernel_size, dilation=dilation, dtype=self.dtype, kernel_init=self.kernel_init, name=name
            )
            return partial(made, train=train)

        atrous = SeparableConvNormAct if self.separable else ConvNormAct
        return aspp(
            x,
            branches=[layer(ConvNormAct, 1, 1, "point")] + [layer(atrous, 3, r, f"rate{r}") for r in self.rates],
            image=layer(ConvNormAct, 1, 1, "image"),
            project=layer(ConvNormAct, 1, 1, "project"),
        )


class ASPPSum(nn.Module):
    """Atrous spatial pyramid pooling, DeepLabV2's (Chen et al., 2016, arXiv:1606.00915, fig. 7): a sum of branches.

    With `hidden`, each branch is an atrous convolution to that many channels, a 1x1 convolution among them, each with
    ReLU and dropout, and the 1x1 scores: fc6, fc7 and fc8 of VGG-16, in the figure. Without, it is one atrous
    convolution to the scores, as with ResNet-101.
    """

    num_classes: int
    rates: Sequence[int] = (6, 12, 18, 24)  # in pixels of the feature map
    hidden: int = 0
    dropout: float = 0.0  # after each hidden layer
    dtype: Any = jnp.float32
    head_dtype: Any = None  # of the scores; None is `dtype`

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        scores = self.head_dtype or self.dtype
        if not self.rates:
            raise UserError("`rates` must hold at least 1 number, got ().")

        def conv(features, kernel_size, kernel_init, name, dilation=1, dtype=self.dtype):
            return Conv(
                features,
                kernel_size,
                dilation=dilation,
                use_bias=True,
                dtype=dtype,
                kernel_init=kernel_init,
                name=name,
            )

        def direct(name, dilation):
            return conv(self.num_classes, 3, xavier_uniform, name, dilation, scores)

        def deep(name, dilation):
            fc6 = conv(self.hidden, 3, he_uniform, f"{name}_fc6", dilation)
            fc7 = conv(self.hidden, 1, he_uniform, f"{name}_fc7")
            fc8 = conv(self.num_classes, 1, xavier_uniform, f"{name}_fc8", dtype=scores)

            def drop(x):
                return nn.Dropout(self.dropout)(x, deterministic=not train)

            return lambda x: fc8(drop(nn.relu(fc7(drop(nn.relu(fc6(x)))))))

        branch = deep if self.hidden else direct  # named by number: the rates change with the output stride
        return aspp_sum(x, [branch(f"branch{i}", dilation) for i, dilation in enumerate(self.rates)])
