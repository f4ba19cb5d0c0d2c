"""Tversky losses: overlap with separate weights for false positives and false negatives."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import UserError
from jaxseg.losses.pixels import BinaryLabels, power_of_positive
from jaxseg.losses.regions import check_smooth, overlap_loss, sigmoid_counts, softmax_counts


def tversky(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
    per_image: bool = True,
) -> Float[Array, ""]:
    """Tversky loss, 1 - (TP + s) / (TP + α·FP + β·FN + s), mean over images and classes.

    Salehi et al., 2017, arXiv:1706.05721; sums over the softmax of the logits, in which β = 0.7 did best.
    α = β = 0.5 is Dice (its `smooth` is twice this one), α = β = 1 is Jaccard. Absent classes: as in `dice`.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). An image without any contributes 0.
      alpha: weight of false positives, >= 0.
      beta: weight of false negatives, >= 0. Larger than `alpha`, it favors recall. They can't both be 0.
      smooth: s above, in pixels; must be positive.
      per_image: False treats the batch as one image.

    >>> logits = jnp.array([[[[9.0, -9.0], [9.0, -9.0]]]])  # of class 0 one too many, of class 1 one too few
    >>> print(f"{tversky(logits, jnp.array([[[0, 1]]])):.4f}")  # (0.3 / 2.3 + 0.7 / 1.7) / 2
    0.2711
    """
    _check(alpha, beta, smooth)
    counts = softmax_counts(logits, labels, where, per_image=per_image)
    return jnp.mean(overlap_loss(counts, fp=alpha, fn=beta, smooth=smooth))


def sigmoid_tversky(
    logits: Float[ArrayLike, "b h w c"],
    labels: BinaryLabels,
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
    per_image: bool = True,
) -> Float[Array, ""]:
    """Tversky loss of each class separately (Salehi et al., 2017, arXiv:1706.05721): P is the sigmoid of the logits.

    For one foreground class, or for classes that may overlap. Everything else is as in `tversky`.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids (each class against all others; with c = 1, 1 is the foreground), or a 0 or 1 for every class.
      where: valid pixels (None means all). An image without any contributes 0.
      alpha: weight of false positives, >= 0.
      beta: weight of false negatives, >= 0. They can't both be 0.
      smooth: as in `tversky`, in pixels; must be positive.
      per_image: False treats the batch as one image.

    >>> print(f"{sigmoid_tversky(jnp.zeros((1, 1, 2, 1)), jnp.array([[[0, 1]]])):.4f}")  # 1 - (1/2 + 1) / (1 + 1)
    0.2500
    """
    _check(alpha, beta, smooth)
    counts = sigmoid_counts(logits, labels, where, per_image=per_image)
    return jnp.mean(overlap_loss(counts, fp=alpha, fn=beta, smooth=smooth))


def focal_tversky(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
    smooth: float = 1.0,
    per_image: bool = True,
) -> Float[Array, ""]:
    """Focal Tversky loss, the mean over images and classes of (Tversky loss)^(1/γ).

    Abraham & Khan, 2018, arXiv:1810.07842, which sums over classes and calls α what is β here and in
    `tversky`. With γ > 1, classes with a small loss have the steeper gradient; with γ < 1, classes with a large loss
    have it, as in focal loss.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). An image without any contributes 0.
      alpha: weight of false positives, >= 0.
      beta: weight of false negatives, >= 0. They can't both be 0.
      gamma: γ above, > 0; the paper tries 1 to 3.
      smooth: as in `tversky`, in pixels; must be positive.
      per_image: False treats the batch as one image.

    >>> logits = jnp.array([[[[9.0, -9.0], [9.0, -9.0]]]])
    >>> print(f"{focal_tversky(logits, jnp.array([[[0, 1]]])):.4f}")  # ((0.3 / 2.3)^0.75 + (0.7 / 1.7)^0.75) / 2
    0.3655
    """
    _check(alpha, beta, smooth)
    if not gamma > 0:
        raise UserError(f"`gamma` must be positive, got {gamma}. 1 is the Tversky loss itself.")
    counts = softmax_counts(logits, labels, where, per_image=per_image)
    return jnp.mean(power_of_positive(overlap_loss(counts, fp=alpha, fn=beta, smooth=smooth), 1 / gamma))


def _check(alpha: float, beta: float, smooth: float) -> None:
    check_smooth(smooth)
    if not (alpha >= 0 and beta >= 0 and alpha + beta > 0):
        raise UserError(f"`alpha` and `beta` must be >= 0 and not both 0, got {alpha} and {beta}.")
