"""Dice losses: the overlap of prediction and label relative to their sizes, with variants."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import UserError
from jaxseg.losses.pixels import BinaryLabels
from jaxseg.losses.regions import check_smooth, overlap_loss, sigmoid_counts, softmax_counts


def dice(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    smooth: float = 1.0,
    per_image: bool = True,
    squared: bool = False,
    log: bool = False,
) -> Float[Array, ""]:
    """Soft Dice loss, 1 - (2|P∩T| + s) / (|P| + |T| + s), mean over images and classes.

    Milletari et al., 2016, arXiv:1606.04797; with sums unless `squared`. P is the softmax of the logits, T the one-hot
    label. A class that is neither labeled nor predicted contributes about 0. A class that is predicted but not labeled
    costs up to 1, since the mean is over all classes and images.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). An image without any contributes 0.
      smooth: s above, in pixels; must be positive.
      per_image: False treats the batch as one image. Prefer it where some classes are in few images: the mean over
        images may then learn to leave such classes out.
      squared: |P| is Σ p² and |T| is Σ t², as in the paper; the gradient then vanishes as p approaches t.
      log: -log of the ratio instead of 1 minus the ratio; unbounded, and steep where the overlap is small.

    >>> logits = jnp.array([[[[9.0, -9.0], [-9.0, 9.0]]]])
    >>> print(f"{dice(logits, jnp.array([[[0, 1]]])):.4f}")
    0.0000
    >>> print(f"{dice(logits, jnp.array([[[1, 0]]])):.4f}")  # 1 - (0 + 1) / (1 + 1 + 1)
    0.6667
    """
    check_smooth(smooth)
    counts = softmax_counts(logits, labels, where, per_image=per_image, squared=squared)
    return overlap_loss(counts, fp=0.5, fn=0.5, smooth=smooth / 2, log=log).mean()


def sigmoid_dice(
    logits: Float[ArrayLike, "b h w c"],
    labels: BinaryLabels,
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    smooth: float = 1.0,
    per_image: bool = True,
    squared: bool = False,
    log: bool = False,
) -> Float[Array, ""]:
    """Dice loss of each class separately (Milletari et al., 2016, arXiv:1606.04797): P is the sigmoid of the logits.

    For one foreground class, or for classes that may overlap. Everything else is as in `dice`.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids (each class against all others; with c = 1, 1 is the foreground), or a 0 or 1 for every class.
      where: valid pixels (None means all). An image without any contributes 0.
      smooth: as in `dice`, in pixels; must be positive.
      per_image: False treats the batch as one image.
      squared: as in `dice`.
      log: -log of the ratio instead of 1 minus the ratio.

    >>> print(f"{sigmoid_dice(jnp.zeros((1, 1, 2, 1)), jnp.array([[[0, 1]]])):.4f}")  # 1 - (2 / 2 + 1) / (1 + 1 + 1)
    0.3333
    """
    check_smooth(smooth)
    counts = sigmoid_counts(logits, labels, where, per_image=per_image, squared=squared)
    return overlap_loss(counts, fp=0.5, fn=0.5, smooth=smooth / 2, log=log).mean()


def log_cosh_dice(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    smooth: float = 1.0,
    per_image: bool = True,
) -> Float[Array, ""]:
    """The logarithm of the hyperbolic cosine of `dice` (Jadon, 2020, arXiv:2006.14822).

    Near 0 it is half the square of the Dice loss, so its gradient, tanh(dice) times that of Dice, goes to 0 smoothly.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). An image without any contributes 0 to the Dice loss.
      smooth: as in `dice`, in pixels; must be positive.
      per_image: False treats the batch as one image.

    >>> print(f"{log_cosh_dice(jnp.array([[[[9.0, -9.0]]]]), jnp.array([[[1]]])):.4f}")  # log cosh 0.5
    0.1201
    """
    loss = dice(logits, labels, where=where, smooth=smooth, per_image=per_image)
    return jnp.log1p(2 * jnp.sinh(loss / 2) ** 2)  # log cosh without its 1, which would swallow a small square


def generalized_dice(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    smooth: float = 1.0,
    per_image: bool = True,
    power: float = 2.0,
) -> Float[Array, ""]:
    """Generalized Dice loss, 1 - 2 Σ w·|P∩T| / Σ w·(|P| + |T|) over classes (Sudre et al., 2017, arXiv:1707.03237).

    w = 1 / |T|², so that small classes weigh as much as large ones. One ratio per image, then the mean over images.
    Weights are relative to that of the rarest class present, so `smooth` is in pixels of that class. An absent class
    has the weight of the rarest one; in the paper it would be infinite.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). An image without any contributes 0.
      smooth: added to numerator and denominator, in pixels of the rarest class; must be positive.
      per_image: False treats the batch as one image.
      power: exponent of the weights 1 / |T|^power, >= 0; 0 gives all classes the same weight.

    >>> logits = jnp.array([[[[9.0, -9.0], [9.0, -9.0], [9.0, -9.0]]]])  # two pixels right, one wrong
    >>> print(f"{generalized_dice(logits, jnp.array([[[0, 0, 1]]])):.4f}")  # (1/4 + 1) / (5/4 + 1 + 1)
    0.3846
    """
    check_smooth(smooth)
    if not power >= 0:
        raise UserError(f"`power` must be >= 0, got {power}. 2 is the paper's.")
    counts = softmax_counts(logits, labels, where, per_image=per_image)
    size = lax.stop_gradient(counts.tp + counts.fn)
    rarest = jnp.where(size > 0, size, jnp.inf).min(-1, keepdims=True)
    weights = jnp.where(size > 0, rarest / jnp.where(size > 0, size, 1.0), 1.0) ** power
    wrong = (weights * (counts.fp + counts.fn)).sum(-1)
    return (wrong / (2 * (weights * counts.tp).sum(-1) + wrong + smooth)).mean()
