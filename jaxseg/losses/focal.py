"""Focal loss: cross entropy that gives less weight to pixels that are already right with high probability."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import UserError, check_logits_and_labels
from jaxseg.losses.pixels import (
    BinaryLabels,
    binary_targets,
    check_binary,
    counted_logits,
    one_hot,
    per_class,
    power_of_positive,
    ratio_where,
    surprise,
)


def focal(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    gamma: float = 2.0,
    alpha: Sequence[float] | Float[ArrayLike, " c"] | None = None,
) -> Float[Array, ""]:
    """Softmax focal loss, -α(y)·(1 - p(y))^γ·log p(y), mean over the valid pixels.

    Lin et al., 2017, arXiv:1708.02002, section 3, which has the sigmoid form (`sigmoid_focal`). The sum is
    divided by the number of pixels, not by the sum of their α. γ = 0 without α is cross entropy.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). Without any, loss and gradient are 0.
      gamma: γ above, >= 0.
      alpha: one weight per class.

    >>> logits = jnp.log(jnp.array([[[[0.5, 0.5], [0.75, 0.25]]]]))
    >>> print(f"{focal(logits, jnp.array([[[0, 0]]])):.4f}")  # (log 2 / 4 + log(4 / 3) / 16) / 2
    0.0956
    """
    check_logits_and_labels(logits, labels, where)
    _check_gamma(gamma)
    logits = counted_logits(logits, where)
    target = one_hot(labels, logits.shape[-1])
    negative_log_p, rest = surprise(logits, target)
    loss = power_of_positive(rest, gamma) * negative_log_p
    if alpha is not None:
        loss = loss * jnp.where(target, per_class(alpha, logits.shape[-1], "alpha"), 0.0).sum(-1)
    return ratio_where(loss, jnp.ones_like(loss), where)


def sigmoid_focal(
    logits: Float[ArrayLike, "b h w c"],
    labels: BinaryLabels,
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
) -> Float[Array, ""]:
    """Focal loss of each class separately, mean over the valid pixels and over classes.

    Lin et al., 2017, arXiv:1708.02002, section 3: -α·(1 - p)^γ·log p at pixels of the class, -(1 - α)·p^γ·log(1 - p)
    elsewhere, with p the sigmoid of its logit.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids (each class against all others; with c = 1, 1 is the foreground), or a 0 or 1 for every class.
      where: valid pixels (None means all). Without any, loss and gradient are 0.
      gamma: γ above, >= 0; 0 without `alpha` is `binary_cross_entropy`.
      alpha: α above, in [0, 1]; None means a weight of 1 for both.

    >>> print(f"{sigmoid_focal(jnp.zeros((1, 1, 1, 1)), jnp.array([[[1]]])):.4f}")  # log 2 / 16
    0.0433
    """
    check_binary(logits, labels, where)
    _check_gamma(gamma)
    if alpha is not None and not 0 <= alpha <= 1:
        raise UserError(f"`alpha` must be in [0, 1] or None, got {alpha}.")
    logits = counted_logits(logits, where)
    target = binary_targets(labels, logits.shape[-1])
    right = jnp.where(target, logits, -logits)
    # 1 - p as an exponential: the slope of a power has no end at 0, this has.
    loss = jnp.exp(-gamma * jax.nn.softplus(right)) * jax.nn.softplus(-right)
    if alpha is not None:
        loss = loss * jnp.where(target, alpha, 1 - alpha)
    loss = loss.mean(-1)
    return ratio_where(loss, jnp.ones_like(loss), where)


def _check_gamma(gamma: float) -> None:
    if not gamma >= 0:
        raise UserError(f"`gamma` must be >= 0, got {gamma}. 0 is cross entropy.")
