"""MA-Net's two blocks: attention between positions, and between the channels of two levels."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.attention import ChannelWeights
from jaxseg.blocks.conv import Conv, ConvNormAct, Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.types import Function
from jaxseg.ops.resize import resize_like


def pab(
    x: Feature,
    query: Function,
    key: Function,
    value: Function,
    project: Function,
    relate: Callable[[Feature, Feature], Float[Array, "b n n"]],
    collect: Callable[[Float[Array, "b n n"], Feature], Feature],
) -> Feature:
    """Adds attention over all positions to every position of `x`, and projects the sum.

    `relate` and `collect` are `position_weights` and `weighted_values` in the paper, and their `joint_…` namesakes in
    segmentation_models_pytorch.
    """
    return project(x + collect(relate(query(x), key(x)), value(x)))


def position_weights(query: Feature, key: Feature) -> Float[Array, "b n n"]:
    """Attention weights of the h·w positions of `query` over those of `key`: a softmax over the latter.

    >>> position_weights(jnp.ones((1, 1, 2, 3)), jnp.ones((1, 1, 2, 3))).tolist()
    [[[0.5, 0.5], [0.5, 0.5]]]
    """
    return jax.nn.softmax(_products(query, key), axis=-1)


def joint_position_weights(query: Feature, key: Feature) -> Float[Array, "b n n"]:
    """As `position_weights`, but with one softmax over all pairs of positions.

    >>> joint_position_weights(jnp.ones((1, 1, 2, 3)), jnp.ones((1, 1, 2, 3))).tolist()
    [[[0.25, 0.25], [0.25, 0.25]]]
    """
    products = _products(query, key)
    return jax.nn.softmax(products.reshape(len(products), -1), axis=-1).reshape(products.shape)


def _products(query: Feature, key: Feature) -> Float[Array, "b n n"]:
    query, key = (y.reshape(y.shape[0], -1, y.shape[-1]) for y in (query, key))
    return jnp.einsum("bnc,bmc->bnm", query, key, preferred_element_type=jnp.float32)


def weighted_values(weights: Float[Array, "b n n"], value: Feature) -> Feature:
    """At each position, the weighted sum of the values of all positions.

    >>> weighted_values(jnp.array([[[0.0, 1.0], [1.0, 0.0]]]), jnp.array([[[[3.0], [5.0]]]])).ravel().tolist()
    [5.0, 3.0]
    """
    b, _, _, c = value.shape
    return jnp.einsum("bnm,bmc->bnc", weights.astype(value.dtype), value.reshape(b, -1, c)).reshape(value.shape)


def joint_weighted_values(weights: Float[Array, "b n n"], value: Feature) -> Feature:
    """As `weighted_values`, but with the numbers of each image, position by position, read as channel by channel.

    This mixes up positions and channels, but published weights were trained with it.

    >>> value = jnp.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> joint_weighted_values(jnp.eye(2)[None], value).tolist()
    [[[[1.0, 3.0], [2.0, 4.0]]]]
    """
    b, h, w, c = value.shape
    return weighted_values(weights, value).reshape(b, c, h, w).transpose(0, 2, 3, 1)


def mfab(
    x: Feature,
    skip: Feature,
    reduce: Function,
    upsample: Callable[[Feature, Feature], Feature],
    weigh: Function,
    weigh_skip: Function,
    fuse: Function,
) -> Feature:
    """Weights the channels of `x` by statistics of both levels and concatenates the encoder's finer features."""
    x = upsample(reduce(x), skip)
    x = x * (weigh(x) + weigh_skip(skip))
    return fuse(jnp.concatenate([x, skip], axis=-1))


class PAB(nn.Module):
    """Position-wise attention block (Fan et al., 2020, IEEE Access 8, ieeexplore.ieee.org/document/9201310).

    The weights between positions are sown as "attention" to the collection "intermediates".
    """

    features: int = 64  # of query and key
    joint: bool = True  # as in segmentation_models_pytorch, see `joint_position_weights`; False is the paper's
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature) -> Feature:
        def layer(features, kernel_size, name):
            return Conv(features, kernel_size, use_bias=True, dtype=self.dtype, kernel_init=he_uniform, name=name)

        def relate(query, key):
            weights = (joint_position_weights if self.joint else position_weights)(query, key)
            self.sow("intermediates", "attention", weights)
            return weights

        channels = x.shape[-1]
        return pab(
            x,
            query=layer(self.features, 1, "query"),
            key=layer(self.features, 1, "key"),
            value=layer(channels, 3, "value"),
            project=layer(channels, 3, "project"),
            relate=relate,
            collect=joint_weighted_values if self.joint else weighted_values,
        )


class MFAB(nn.Module):
    """Multi-scale fusion attention block (Fan et al., 2020).

    The channel weights are sown as "attention" by its submodules "weigh" and "weigh_skip".
    """

    features: int
    reduction: int = 16  # of the channels while they are weighed
    method: str = "nearest"  # of the enlargement: "nearest" or "bilinear"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, skip: Feature, *, train: bool) -> Feature:
        def layers(**named):
            def run(x):
                for name, (features, kernel_size) in named.items():
                    conv = ConvNormAct(features, kernel_size, dtype=self.dtype, kernel_init=he_uniform, name=name)
                    x = conv(x, train=train)
                return x

            return run

        width = skip.shape[-1]
        return mfab(
            x,
            skip,
            reduce=layers(reduce1=(x.shape[-1], 3), reduce2=(width, 1)),
            upsample=partial(resize_like, method=self.method),
            weigh=ChannelWeights(self.reduction, dtype=self.dtype, name="weigh"),
            weigh_skip=ChannelWeights(self.reduction, dtype=self.dtype, name="weigh_skip"),
            fuse=layers(conv1=(self.features, 3), conv2=(self.features, 3)),
        )
