"""BiFPN: a feature pyramid with a top-down and a bottom-up pass and learned weights for its inputs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.separable import SeparableConvNormAct
from jaxseg.ops.max_pool import max_pool
from jaxseg.ops.resize import resize_like

Node = Callable[[Sequence[Feature]], Feature]


def fast_fusion(inputs: Sequence[Feature], weights: Float[Array, " n"], epsilon: float = 1e-4) -> Feature:
    """Averages `inputs` by `weights`, the negative ones as zeros: Tan et al., section 3.3, fast normalized fusion.

    >>> fast_fusion([jnp.ones((1, 1, 1, 1)), 3 * jnp.ones((1, 1, 1, 1))], jnp.array([2.0, 2.0]), epsilon=0.0).item()
    2.0
    """
    weights = nn.relu(weights)
    weights = weights / (weights.sum() + epsilon)
    parts = [x * weight.astype(x.dtype) for x, weight in zip(inputs, weights, strict=True)]
    return sum(parts[1:], start=parts[0])


def shrink_like(x: Feature, like: Feature) -> Feature:
    """Halves `x` by max pooling, unless the encoder dilates and the next level is as large.

    >>> shrink_like(jnp.ones((1, 5, 4, 2)), jnp.ones((1, 3, 2, 7))).shape
    (1, 3, 2, 2)
    """
    return x if x.shape[1:3] == like.shape[1:3] else max_pool(x, 3)


def bifpn(levels: Sequence[Feature], down: Sequence[Node], up: Sequence[Node]) -> list[Feature]:
    """Applies a top-down and a bottom-up pass (Tan et al., fig. 2 d); levels are ordered coarse to fine.

    A top-down node fuses a level with the enlarged coarser result. A bottom-up node fuses the level, its top-down
    result and the reduced finer result. The coarsest level has no top-down node, the finest no bottom-up node.

    Args:
      levels: feature maps with equal numbers of channels.
      down: a node for each level but the coarsest, from coarse to fine.
      up: a node for each level but the finest, from fine to coarse; empty: top-down pass only.
    """
    descended = [levels[0]]
    for level, node in zip(levels[1:], down, strict=True):
        descended.append(node([level, resize_like(descended[-1], level, "nearest")]))
    if not up:
        return descended
    finished = [descended[-1]]
    for i, node in zip(range(len(levels) - 2, -1, -1), up, strict=True):
        inputs = [levels[i], descended[i]] if i else [levels[0]]
        finished.append(node([*inputs, shrink_like(finished[-1], levels[i])]))
    return finished[::-1]


class FusionNode(nn.Module):
    """A learned average of its inputs, a separable 3x3 convolution, batch normalization and Swish."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Sequence[Feature], *, train: bool) -> Feature:
        weights = self.param("scale", nn.initializers.ones, (len(inputs),), jnp.float32)
        conv = SeparableConvNormAct(
            self.features, activation=nn.swish, dtype=self.dtype, kernel_init=he_uniform, name="conv"
        )
        return conv(fast_fusion(inputs, weights), train=train)


class BiFPN(nn.Module):
    """One layer of the bidirectional feature pyramid (Tan et al., 2019, arXiv:1911.09070, fig. 2 d).

    With `back_up=False` it is the top-down pass only, for a last layer of which only the finest level is used.
    """

    features: int = 128
    back_up: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Sequence[Feature], *, train: bool) -> list[Feature]:
        def nodes(direction, indices):
            return [
                partial(FusionNode(self.features, dtype=self.dtype, name=f"{direction}{i}"), train=train)
                for i in indices
            ]

        coarser = range(1, len(levels))  # nodes are numbered by their level, 0 the coarsest
        up = nodes("up", range(len(levels) - 2, -1, -1)) if self.back_up else ()
        return bifpn(levels, nodes("down", coarser), up)
