"""Soft true positives, false positives and false negatives, from which all overlap losses are computed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import UserError, check_logits_and_labels
from jaxseg.losses.pixels import BinaryLabels, binary_targets, check_binary, counted_logits, one_hot


class SoftCounts(NamedTuple):
    """Sums over the valid pixels, float32, [b, c] or, of the batch as one image, [c]."""

    tp: Float[Array, "... c"]  # Σ p·t
    fp: Float[Array, "... c"]  # Σ p·(1 - t)
    fn: Float[Array, "... c"]  # Σ (1 - p)·t


def softmax_counts(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    where: Bool[ArrayLike, "b h w"] | None,
    *,
    per_image: bool,
    squared: bool = False,
) -> SoftCounts:
    """Returns the sums for p the softmax of the logits and t the one-hot label, after checking the arrays.

    A loss should be written as a ratio with fp and fn above: these are sums of small numbers where the prediction is
    good, 1 - p being the sum of the other classes, and keep digits that 1 - (a ratio near 1) would lose.

    Args:
      logits: unnormalized scores, any float dtype.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). An image without any has zeros.
      per_image: False treats the batch as one image.
      squared: fp and fn are Σ (p - t)² over the same pixels, so that 2·tp + fp + fn = Σ p² + Σ t².

    >>> logits = jnp.log(jnp.array([[[[0.75, 0.25], [0.5, 0.5]]]]))
    >>> [x.tolist() for x in softmax_counts(logits, jnp.array([[[0, 0]]]), None, per_image=False)]
    [[1.25, 0.0], [0.0, 0.75], [0.75, 0.0]]
    """
    check_logits_and_labels(logits, labels, where)
    if logits.ndim != 4:
        raise UserError(f"Logits must be [b, h, w, c], got {logits.shape}. Add the axes that are missing.")
    probabilities = jax.nn.softmax(counted_logits(logits, where))
    target = one_hot(labels, logits.shape[-1])
    others = jnp.where(target, 0.0, probabilities).sum(-1, keepdims=True)  # 1 - p of the label's class
    return _sums(probabilities, others, target, where, per_image, squared)


def sigmoid_counts(
    logits: Float[ArrayLike, "b h w c"],
    labels: BinaryLabels,
    where: Bool[ArrayLike, "b h w"] | None,
    *,
    per_image: bool,
    squared: bool = False,
) -> SoftCounts:
    """Returns the sums of `softmax_counts` for p the sigmoid of the logits and t what `binary_targets` says.

    >>> [x.tolist() for x in sigmoid_counts(jnp.zeros((1, 1, 2, 1)), jnp.array([[[1, 0]]]), None, per_image=True)]
    [[[0.5]], [[0.5]], [[0.5]]]
    """
    check_binary(logits, labels, where)
    logits = counted_logits(logits, where)
    target = binary_targets(labels, logits.shape[-1])
    return _sums(jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits), target, where, per_image, squared)


def overlap_loss(
    counts: SoftCounts, *, fp: float, fn: float, smooth: float, log: bool = False
) -> Float[Array, "... c"]:
    """Returns 1 - (tp + s) / (tp + fp·FP + fn·FN + s), or minus the logarithm of that ratio, per image and class.

    It is computed from the false counts, not as 1 minus a ratio near 1, so that no digits are lost.

    >>> counts = SoftCounts(tp=jnp.array([2.0]), fp=jnp.array([1.0]), fn=jnp.array([0.0]))
    >>> overlap_loss(counts, fp=1.0, fn=1.0, smooth=1.0).tolist()  # 1 - 3 / 4
    [0.25]
    """
    wrong = fp * counts.fp + fn * counts.fn
    if log:
        return jnp.log1p(wrong / (counts.tp + smooth))
    return wrong / (counts.tp + wrong + smooth)


def check_smooth(smooth: float) -> None:
    """Raises a `UserError` unless `smooth` is positive: without valid pixels the ratio is smooth / smooth."""
    if not smooth > 0:
        raise UserError(f"`smooth` must be positive, got {smooth}. 1.0 is one pixel.")


def _sums(
    probabilities: Float[ArrayLike, "b h w c"],
    complement: Float[ArrayLike, "b h w #c"],
    target: Bool[ArrayLike, "b h w c"],
    where: Bool[ArrayLike, "b h w"] | None,
    per_image: bool,
    squared: bool,
) -> SoftCounts:
    pixels = tuple(range(1 if per_image else 0, target.ndim - 1))
    inside, outside = target, ~target
    if where is not None:
        inside, outside = inside & where[..., None], outside & where[..., None]
    power = 2 if squared else 1
    return SoftCounts(
        tp=jnp.where(inside, probabilities, 0.0).sum(pixels),
        fp=jnp.where(outside, probabilities**power, 0.0).sum(pixels),
        fn=jnp.where(inside, complement**power, 0.0).sum(pixels),
    )
