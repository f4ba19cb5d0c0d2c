"""Layer normalization and layer scale, which ConvNeXt and transformers use instead of batch normalization."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import Feature


class LayerNorm(nn.LayerNorm):
    """Layer normalization (Ba et al., 2016, arXiv:1607.06450) over the channels, at every position separately.

    Flax's, called as `BatchNorm` is; `train` makes no difference to it. Statistics are float32, and exact for means far
    from zero; `epsilon` is PyTorch's.
    """

    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    use_fast_variance: bool = False

    def __call__(self, x: Feature, *, train: bool) -> Feature:
        with jax.numpy_dtype_promotion("standard"):  # flax asks JAX which type `dtype` and float32 make together
            return super().__call__(x.astype(jnp.float32))


class LayerScale(nn.Module):
    """A factor for every channel of a residual branch, small at first (Touvron et al., 2021, arXiv:2103.17239)."""

    initial: float = 1e-6
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature) -> Feature:
        gamma = self.param("gamma", nn.initializers.constant(self.initial), (x.shape[-1],), jnp.float32)
        return x * jnp.broadcast_to(gamma.astype(self.dtype), x.shape)
