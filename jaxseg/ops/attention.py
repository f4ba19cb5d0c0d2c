"""Scaled dot-product attention."""

import jax
import jax.numpy as jnp
from jax import lax
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

    Scores, their softmax and all sums are float32. What is multiplied has the dtype of the arguments, in the gradient
    too: with bfloat16, that halves what is written and read for it, and tensor cores multiply.

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

    weights = attention_weights(*map(split, (query, key))).astype(value.dtype)
    means = jnp.einsum("bhnm,bmhd->bnhd", weights, split(value))
    return means.reshape(*means.shape[:2], -1)


@jax.custom_jvp
def attention_weights(query: Float[ArrayLike, "b n h c"], key: Float[ArrayLike, "b m h c"]) -> Float[Array, "b h n m"]:
    """Returns the softmax of the scaled scores of every query and key, which sums to 1 over the keys.

    It is computed in float32 and rounded to the arguments' dtype; for the gradient that is all that is kept.

    >>> query = jnp.ones((1, 2, 1, 4))
    >>> attention_weights(query, query)[0, 0].tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    scores = jnp.einsum("bnhc,bmhc->bhnm", query, key, preferred_element_type=jnp.float32)
    return jax.nn.softmax(scores * query.shape[-1] ** -0.5, axis=-1).astype(query.dtype)


@attention_weights.defjvp
def _attention_weights_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (query, key), (dquery, dkey) = primals, tangents
    # The barrier keeps XLA from computing the weights anew from the scores, which it would have to keep for it.
    rounded = lax.optimization_barrier(attention_weights(query, key))
    weights = rounded.astype(jnp.float32)
    # Were these products float32, their transposes would be products of two float32 arrays.
    dscores = jnp.einsum("bnhc,bmhc->bhnm", dquery, key) + jnp.einsum("bnhc,bmhc->bhnm", query, dkey)
    dscores = dscores.astype(jnp.float32) * query.shape[-1] ** -0.5
    dweights = weights * (dscores - (weights * dscores).sum(-1, keepdims=True))
    return rounded, dweights.astype(rounded.dtype)
