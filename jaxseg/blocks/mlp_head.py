"""SegFormer's decoder: projects every level to the same channels, resizes all to one size, and fuses them."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from jaxseg.blocks.conv import BatchNorm, Feature
from jaxseg.blocks.initializers import he_uniform, xavier_uniform
from jaxseg.blocks.types import Function
from jaxseg.ops.conv import conv2d
from jaxseg.ops.resize import resize


def mlp_head(
    levels: Sequence[Feature], projections: Sequence[Function], finish: Function, size: tuple[int, int]
) -> Feature:
    """Projects every level, resizes it to `size`, adds up all levels, and finishes their sum."""
    return finish(sum(resize(project(x), size) for x, project in zip(levels, projections, strict=True)))


class MLPHead(nn.Module):
    """The all-MLP decoder (Xie et al., 2021, arXiv:2105.15203, section 3.2, eq. 4), up to its features.

    The levels are stacked coarse to fine at the size of c2. As in the published weights the layer that fuses them has
    a batch normalization and a ReLU, which equation 4 leaves out.

    Equation 4 projects every level, enlarges it, and multiplies the stack of all by one matrix. Nothing in between is
    nonlinear, and what treats every pixel alike may come before what enlarges every channel alike. So each level is
    multiplied, at its own size, by the product of its projection and its rows of that matrix, and all are added up: the
    same numbers but for rounding, with the same parameters, without the stack and most of the multiplications.
    """

    features: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Mapping[str, Feature], *, train: bool) -> Feature:
        names = sorted(levels, reverse=True)
        fuse = _Fuse(self.features, dtype=self.dtype, name="fuse")
        parts = jnp.split(fuse.matrix(len(names) * self.features), len(names))

        def projection(name: str, part: Float[Array, "i o"]) -> Function:
            init = xavier_uniform
            first = _Matrix(self.features, use_bias=True, kernel_init=init, name=f"project_{name}")
            matrix, bias = first(levels[name].shape[-1])
            both = jnp.matmul(jnp.concatenate([matrix, bias[None]]), part, precision=lax.Precision.HIGHEST)
            kernel, bias = (x.astype(self.dtype)[None, None] for x in (both[:-1], both[-1:]))
            return lambda x: conv2d(x.astype(self.dtype), kernel) + bias

        return mlp_head(
            [levels[name] for name in names],
            [projection(name, part) for name, part in zip(names, parts, strict=True)],
            finish=lambda x: fuse(x, train=train),
            size=levels["c2"].shape[1:3],
        )


class _Matrix(nn.Module):
    """The parameters of a 1x1 convolution, as a matrix and, with `use_bias`, a vector."""

    features: int
    use_bias: bool = False
    kernel_init: Any = he_uniform

    @nn.compact
    def __call__(self, in_features: int) -> tuple[Float[Array, "i o"], Float[Array, " o"] | None]:
        kernel = self.param("kernel", self.kernel_init, (1, 1, in_features, self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32) if self.use_bias else None
        return kernel[0, 0], bias


class _Fuse(nn.Module):
    """A `ConvNormAct` whose convolution, a matrix, was applied before."""

    features: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.conv = _Matrix(self.features)
        self.norm = BatchNorm(dtype=self.dtype)

    def matrix(self, in_features: int) -> Float[Array, "i o"]:
        return self.conv(in_features)[0]

    def __call__(self, x: Feature, *, train: bool) -> Feature:
        return nn.relu(self.norm(x, train=train))
