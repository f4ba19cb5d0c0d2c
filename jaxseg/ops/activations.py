"""Activations that keep one array for their gradient, the features that they get."""

from functools import partial

import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Float


def gelu(x: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Gaussian error linear unit, x · Φ(x) (Hendrycks & Gimpel, 2016, arXiv:1606.08415), without approximation.

    Its gradient is made from `x` anew. JAX's own keeps what the forward pass has made of it, a second array as large.

    >>> import jax.numpy as jnp
    >>> print(f"{gelu(jnp.float32(-1.0)):.4f} {gelu(jnp.float32(1.0)):.4f}")
    -0.1587 0.8413
    """
    return _gelu(x)


_gelu = jax.checkpoint(partial(jax.nn.gelu, approximate=False))
