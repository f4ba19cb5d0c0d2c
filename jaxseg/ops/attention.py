"""Scaled dot-product attention."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float


def dot_product_attention(
    query: Float[ArrayLike, "b n c"],
    key: Float[ArrayLike, "b m c"],
    value: Float[ArrayLike, "b m d"],
    *,
    heads: int = 1,
) -> Float[Array, "b n d"]:
    """Scaled dot-product attention in `heads` groups of channels (Vaswani et al., 2017, arXiv:1706.03762, eq. 1).

    Scores and weights are float32, as are the sums.

    Args:
      query: [b, n, c], for n positions.
      key: [b, m, c], for m positions.
      value: [b, m, d], for the same m positions; the result has its dtype.
      heads: number of groups of adjacent channels, each with its own attention weights; must divide c and d.

    >>> key = jnp.array([[[0.0, 50.0], [50.0, 0.0]]])
    >>> dot_product_attention(key, key, jnp.array([[[1.0], [2.0]]])).ravel().tolist()
    [1.0, 2.0]
    """

    def split(x):
        return x.reshape(*x.shape[:2], heads, -1)

    query, key, value = map(split, (query, key, value))
    scores = jnp.einsum("bnhc,bmhc->bhnm", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores * query.shape[-1] ** -0.5, axis=-1).astype(value.dtype)
    means = jnp.einsum("bhnm,bmhd->bnhd", weights, value, preferred_element_type=jnp.float32)
    return means.astype(value.dtype).reshape(*means.shape[:2], -1)
