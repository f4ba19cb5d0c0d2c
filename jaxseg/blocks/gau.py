"""Global attention upsample: deep features, averaged over the image, weight the channels of fine features."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.attention import sow_attention
from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.types import Function
from jaxseg.ops.pool import global_avg_pool
from jaxseg.ops.resize import resize_like


def gau(
    low: Feature, high: Feature, detail: Function, weigh: Function, upsample: Callable[[Feature, Feature], Feature]
) -> Feature:
    """Resizes `high` to `low`'s size and adds `low`, with channel weights from `high`'s average (Li et al., fig. 4).

    `low` are the encoder's features, filtered by `detail`; `weigh` computes the weights from the averages.
    """
    return upsample(high, low) + detail(low) * weigh(global_avg_pool(high))


class GAU(nn.Module):
    """Global attention upsample (Li et al., 2018, arXiv:1805.10180, fig. 4).

    As in segmentation_models_pytorch: the weights are a sigmoid (a ReLU in the paper). They are sown as
    "attention" to the collection "intermediates".
    """

    features: int
    method: str = "bilinear"  # of the enlargement: "bilinear", with aligned corners, or "nearest"
    conv_bias: bool = False  # in convolutions before BatchNorm: no effect on the output
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, low: Feature, high: Feature, *, train: bool) -> Feature:
        def layer(kernel_size, name, activation):
            conv = ConvNormAct(
                self.features,
                kernel_size,
                activation=activation,
                use_bias=self.conv_bias,
                dtype=self.dtype,
                kernel_init=he_uniform,
                name=name,
            )
            return partial(conv, train=train)

        return gau(
            low,
            high,
            detail=layer(3, "detail", nn.relu),
            weigh=layer(1, "weigh", sow_attention(self)),
            upsample=partial(resize_like, method=self.method, align_corners=self.method == "bilinear"),
        )
