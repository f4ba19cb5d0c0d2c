"""Binary cross entropy: an independent sigmoid for each class."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxseg.checks import UserError
from jaxseg.losses.pixels import BinaryLabels, binary_targets, check_binary, counted_logits, per_class, ratio_where


def binary_cross_entropy(
    logits: Float[ArrayLike, "b h w c"],
    labels: BinaryLabels,
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    beta: float | Sequence[float] | Float[ArrayLike, " c"] | None = None,
    balanced: bool = False,
) -> Float[Array, ""]:
    """Sigmoid cross entropy, -β·t·log p - (1 - t)·log(1 - p), mean over the valid pixels and over classes.

    Balanced (Xie & Tu, 2015, arXiv:1504.06375, eq. 2), it is -β·t·log p - (1 - β)·(1 - t)·log(1 - p), where β is the
    fraction of negatives among the valid pixels of the batch, per class. Positives and negatives then have the same
    total weight. A class without positives, or without negatives, contributes 0. The paper sums; this is a mean.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids (each class against all others; with c = 1, 1 is the foreground), or a 0 or 1 for every class.
      where: valid pixels (None means all). Without any, loss and gradient are 0.
      beta: weight of the positives, > 0, or one for each class; 1 if None. Above 1 it favors recall.
      balanced: β from the batch; `beta` must then be None.

    >>> logits, labels = jnp.zeros((1, 1, 4, 1)), jnp.array([[[1, 0, 0, 0]]])
    >>> print(f"{binary_cross_entropy(logits, labels):.4f} {binary_cross_entropy(logits, labels, beta=3.0):.4f}")
    0.6931 1.0397
    >>> print(f"{binary_cross_entropy(logits, labels, balanced=True):.4f}")  # (3/4 + 3·1/4) / 4 · log 2
    0.2599
    """
    check_binary(logits, labels, where)
    num_classes = logits.shape[-1]
    logits = counted_logits(logits, where)
    target = binary_targets(labels, num_classes)
    positive = negative = jnp.ones(num_classes)
    if balanced:
        if beta is not None:
            raise UserError(f"`balanced` takes β from the batch, so `beta` must be None, got {beta}.")
        negative = _share(target, where)
        positive = _share(~target, where)
    elif beta is not None:
        positive = per_class([beta] * num_classes if isinstance(beta, int | float) else beta, num_classes, "beta")
    positive, negative = positive[None, None, None], negative[None, None, None]
    loss = jnp.where(target, positive * jax.nn.softplus(-logits), negative * jax.nn.softplus(logits)).mean(-1)
    return ratio_where(loss, jnp.ones_like(loss), where)


def _share(of: Bool[ArrayLike, "b h w c"], where: Bool[ArrayLike, "b h w"] | None) -> Float[Array, " c"]:
    """Returns the fraction of valid pixels that are True; 0 if none is valid."""
    counted = jnp.ones(of.shape[:-1], bool) if where is None else where
    pixels = tuple(range(counted.ndim))
    positives = (of & counted[..., None]).sum(pixels, dtype=jnp.int32)
    return positives / jnp.maximum(counted.sum(dtype=jnp.int32), 1)
