"""What every pixel loss needs: scores without the ignored pixels, labels as one-hot, a ratio over what counts."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxseg.checks import UserError


def counted_logits(logits: Float[Array, "... c"], where: Bool[Array, "..."] | None) -> Float[Array, "... c"]:
    """Returns float32 logits with 0 where `where` is False, so that whatever stands there can't reach a gradient.

    >>> counted_logits(jnp.array([[1.0, 2.0], [jnp.nan, 0.0]]), jnp.array([True, False])).tolist()
    [[1.0, 2.0], [0.0, 0.0]]
    """
    logits = logits.astype(jnp.float32)
    return logits if where is None else jnp.where(where[..., None], logits, 0.0)


def one_hot(labels: Int[Array, "..."], num_classes: int) -> Bool[Array, "... c"]:
    """Compares labels with an iota: no gather, hence no scatter in a gradient. A label outside matches no class.

    >>> one_hot(jnp.array([2, 0]), 3).astype(int).tolist()
    [[0, 0, 1], [1, 0, 0]]
    """
    return labels.astype(jnp.int32)[..., None] == jnp.arange(num_classes)


def ratio_where(
    values: Float[Array, "..."], weights: Float[Array, "..."], where: Bool[Array, "..."] | None
) -> Float[Array, ""]:
    """Returns Σ values / Σ weights over the pixels where `where` is True; 0 when their weights sum to 0.

    >>> float(ratio_where(jnp.array([1.0, 3.0, jnp.nan]), jnp.ones(3), jnp.array([True, True, False])))
    2.0
    """
    if where is not None:
        values, weights = jnp.where(where, values, 0.0), jnp.where(where, weights, 0.0)
    total = weights.sum()
    some = total > 0
    return jnp.where(some, values.sum() / jnp.where(some, total, 1.0), 0.0)


def per_class(values: Sequence[float] | Float[Array, "c"], num_classes: int, name: str) -> Float[Array, "c"]:
    """Returns one float32 number a class, or raises a `UserError` that names the argument."""
    array = jnp.asarray(values, jnp.float32)
    if array.shape != (num_classes,):
        raise UserError(
            f"`{name}` must hold one number for each of the {num_classes} classes, got shape {array.shape}."
        )
    return array
