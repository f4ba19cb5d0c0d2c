"""Pooling: over windows, over everything, and over a fixed number of bins."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def global_avg_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b 1 1 c"]:
    """Averages over all positions, in float32.

    >>> global_avg_pool(jnp.arange(4.0).reshape(1, 2, 2, 1)).item()
    1.5
    """
    return x.mean((1, 2), keepdims=True, dtype=jnp.float32).astype(x.dtype)
