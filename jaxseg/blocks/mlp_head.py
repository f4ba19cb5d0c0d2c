"""SegFormer's decoder: projects every level to the same channels, resizes all to one size, and fuses them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import Conv, ConvNormAct, Feature
from jaxseg.blocks.initializers import he_uniform, xavier_uniform
from jaxseg.blocks.types import Function
from jaxseg.ops.resize import resize


def mlp_head(
    levels: Sequence[Feature], projections: Sequence[Function], fuse: Function, size: tuple[int, int]
) -> Feature:
    """Projects every level, resizes it to `size`, and fuses all levels."""
    views = [resize(project(x), size) for x, project in zip(levels, projections, strict=True)]
    return fuse(jnp.concatenate(views, axis=-1))


class MLPHead(nn.Module):
    """The all-MLP decoder (Xie et al., 2021, arXiv:2105.15203, section 3.2, eq. 4), up to its features.

    The levels are stacked coarse to fine at the size of c2. As in the published weights the layer that fuses them has
    a batch normalization and a ReLU, which equation 4 leaves out.
    """

    features: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Mapping[str, Feature], *, train: bool) -> Feature:
        names = sorted(levels, reverse=True)

        def projection(name):
            init = xavier_uniform
            return Conv(self.features, 1, use_bias=True, dtype=self.dtype, kernel_init=init, name=f"project_{name}")

        fuse = ConvNormAct(self.features, 1, dtype=self.dtype, kernel_init=he_uniform, name="fuse")
        return mlp_head(
            [levels[name] for name in names],
            [projection(name) for name in names],
            fuse=lambda x: fuse(x, train=train),
            size=levels["c2"].shape[1:3],
        )
