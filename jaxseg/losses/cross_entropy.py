"""Softmax cross entropy with class weights, class balancing, pixel weights and online hard example mining."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Integer

from jaxseg.checks import UserError, check_logits_and_labels
from jaxseg.losses.pixels import inverse_frequency, one_hot, per_class, ratio_where
from jaxseg.ops.varying import vary_like


def cross_entropy(
    logits: Float[ArrayLike, "*b c"],
    labels: Integer[ArrayLike, "*b"],
    *,
    where: Bool[ArrayLike, "*b"] | None = None,
    class_weights: Sequence[float] | Float[ArrayLike, " c"] | None = None,
    label_smoothing: float = 0.0,
    balanced: bool = False,
    pixel_weights: Float[ArrayLike, "*b"] | None = None,
    ohem_keep: float | None = None,
    ohem_threshold: float | None = None,
) -> Float[Array, ""]:
    """Softmax cross entropy, -log p(label), mean over the valid pixels (any number of axes before `c`).

    The mean is weighted, Σ u·w·loss / Σ u·w, where u is the pixel's weight and w the weight of its class, as in
    PyTorch. Label smoothing is Szegedy et al., 2016, arXiv:1512.00567, section 7: the target is
    (1 - ε)·one-hot + ε/c. Pixel weights may be U-Net's border map (Ronneberger et al., 2015, arXiv:1505.04597, eq. 2).

    Online hard example mining (Shrivastava et al., 2016, arXiv:1604.03540, section 4; there over regions, here over the
    pixels of the whole batch): given `ohem_keep`, `ohem_threshold` or both, the mean is over the pixels that either of
    them selects. Pixels are ranked by -log p(label) without weights; ties with the last pixel kept are kept too.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). Without any, loss and gradient are 0.
      class_weights: one weight per class, >= 0.
      balanced: divides each class's weight by its number of valid pixels in the batch, so that all classes present have
        the same total weight.
      label_smoothing: ε above, in [0, 1].
      pixel_weights: one weight per pixel, >= 0; never read where `where` is False.
      ohem_keep: fraction of the valid pixels, in (0, 1]; those with the largest loss are kept, at least one.
      ohem_threshold: probability in (0, 1]; pixels with p(label) below it are kept. Alone, it may keep none.

    >>> logits = jnp.log(jnp.array([[[[0.5, 0.5], [0.25, 0.75]]]]))
    >>> labels = jnp.array([[[0, 0]]])
    >>> print(f"{cross_entropy(logits, labels):.4f}")  # (log 2 + log 4) / 2
    1.0397
    >>> print(f"{cross_entropy(logits, labels, where=jnp.array([[[True, False]]])):.4f}")
    0.6931
    >>> print(f"{cross_entropy(logits, labels, ohem_keep=0.5):.4f}")  # the harder pixel alone
    1.3863
    """
    check_logits_and_labels(logits, labels, where)
    _check_range("label_smoothing", label_smoothing, zero=True)
    _check_range("ohem_keep", ohem_keep)
    _check_range("ohem_threshold", ohem_threshold)
    num_classes = logits.shape[-1]
    logits = logits.astype(jnp.float32)
    highest, total = exp_sum(logits, where)
    log_sum = jnp.log(total)
    # The difference is taken after the shift: of two logits near 1e4 it would keep three digits before.
    target = one_hot(labels, num_classes)
    negative_log_p = _counted(log_sum - (of_label(logits, target) - highest), where)

    loss, weights = negative_log_p, jnp.ones_like(negative_log_p)
    if class_weights is not None:
        class_weights = per_class(class_weights, num_classes, "class_weights")
    if balanced:
        rarity = inverse_frequency(target, where)
        class_weights = rarity if class_weights is None else class_weights * rarity
    if class_weights is not None:
        weights = jnp.where(target, class_weights, 0.0).sum(-1)
        loss = loss * weights
    if label_smoothing:
        every = jnp.ones(num_classes) if class_weights is None else class_weights
        of_pixels = jnp.broadcast_to(every, logits.shape)
        shifted = logits - highest[..., None]
        shifted = shifted if where is None else jnp.where(where[..., None], shifted, 0.0)
        all_classes = log_sum * every.sum() - (shifted * of_pixels).sum(-1)  # -Σ w·log p
        loss = (1 - label_smoothing) * loss + label_smoothing / num_classes * all_classes
    if pixel_weights is not None:
        _check_pixel_weights(pixel_weights, labels)
        pixel_weights = _counted(pixel_weights, where)
        loss, weights = loss * pixel_weights, weights * pixel_weights
    if ohem_keep is not None or ohem_threshold is not None:
        where = hardest(lax.stop_gradient(negative_log_p), where, keep=ohem_keep, threshold=ohem_threshold)
    return ratio_where(loss, weights, where)


@jax.custom_jvp
def exp_sum(
    logits: Float[Array, "... c"], where: Bool[ArrayLike, "..."] | None
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Returns the largest logit of every pixel, as a constant, and Σ exp(logit - largest), 1 where `where` is False.

    The gradient, too, is 0 there, whatever the logits are: so they need not be masked, which would copy them.

    >>> highest, total = exp_sum(jnp.array([[3.0, 3.0], [jnp.nan, 0.0]]), jnp.array([True, False]))
    >>> total.tolist()
    [2.0, 1.0]
    """
    # XLA would make the maximum, the shift and the sum one Triton kernel with a pixel's classes as a row. On an H100
    # that took twice as long as separate loops (docs/gpu), and the barrier keeps them apart. Elsewhere it does nothing.
    highest = lax.optimization_barrier(logits.max(-1))
    total = jnp.exp(logits - highest[..., None]).sum(-1)
    return highest, total if where is None else jnp.where(where, total, 1.0)


@exp_sum.defjvp
def _exp_sum_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    logits, where = primals
    highest, total = exp_sum(logits, where)
    exponentials = jnp.exp(logits - highest[..., None])
    if where is not None:
        exponentials = jnp.where(where[..., None], exponentials, 0.0)
    return (highest, total), (jnp.zeros_like(highest), (exponentials * tangents[0]).sum(-1))


@jax.custom_jvp
def of_label(values: Float[Array, "... c"], target: Bool[Array, "... c"]) -> Float[Array, "..."]:
    """Returns the value of every pixel's class, 0 where `target` has none: a sum over the classes, not a gather.

    >>> float(of_label(jnp.array([3.0, 5.0]), jnp.array([False, True])))
    5.0
    """
    if values.shape[-1] > 32:  # XLA's CPU compiler takes longer sums of whole numbers apart, and writes the addends
        return jnp.where(target, values, 0.0).sum(-1)
    # With one addend that is not 0, the sum of the bits is exact. That of the floats would be a call of a library, and
    # the addends an array as large as the logits: 24.9 ms for the 15.4 that loss and gradient of 4 x 256² x 21 take.
    bits = jnp.where(target, lax.bitcast_convert_type(values, jnp.int32), 0).sum(-1, dtype=jnp.int32)
    return lax.bitcast_convert_type(bits, jnp.float32)


@of_label.defjvp
def _of_label_jvp(primals: tuple[ArrayLike, ArrayLike], tangents: tuple[ArrayLike, Any]) -> tuple[Array, Array]:
    values, target = primals
    return of_label(values, target), jnp.where(target, tangents[0], 0.0).sum(-1)


def _counted(values: Float[ArrayLike, "..."], where: Bool[ArrayLike, "..."] | None) -> Float[Array, "..."]:
    """Returns one value a pixel, 0 where `where` is False: not even a NaN there reaches a gradient."""
    return values if where is None else jnp.where(where, values, 0.0)


def hardest(
    negative_log_p: Float[ArrayLike, "..."],
    where: Bool[ArrayLike, "..."] | None,
    *,
    keep: float | None,
    threshold: float | None,
) -> Bool[Array, "..."]:
    """Returns the mask of pixels that mining keeps: the `keep` fraction with the largest loss, and p < `threshold`.

    >>> where = jnp.array([True, True, True, False])
    >>> hardest(jnp.array([0.1, 3.0, 2.0, 9.0]), where, keep=0.3, threshold=0.2).tolist()
    [False, True, True, False]
    """
    counted = jnp.ones(negative_log_p.shape, bool) if where is None else where
    kept = jnp.zeros_like(counted)
    if threshold is not None:
        kept = negative_log_p > -math.log(threshold)
    if keep is not None:
        count = counted.sum(dtype=jnp.int32)
        wanted = jnp.maximum(jnp.round(keep * count.astype(jnp.float32)).astype(jnp.int32), 1)
        kept = kept | (negative_log_p >= kth_largest(negative_log_p, counted, wanted))
    return kept & counted


def kth_largest(
    values: Float[ArrayLike, "..."], where: Bool[ArrayLike, "..."], k: Integer[ArrayLike, ""]
) -> Float[Array, ""]:
    """Returns the k-th largest of the values where `where` is True, exactly; 0 if there are fewer. Values are >= 0.

    Non-negative floats have the order of the integers with the same bits, so the result is found bit by bit, with 31
    counts. Unlike a sort, this needs no second array, and devices that share a batch exchange only the counts.

    >>> float(kth_largest(jnp.array([0.5, 4.0, 1.5, 9.0]), jnp.array([True, True, True, False]), 2))
    1.5
    """
    bits = jnp.where(where, lax.bitcast_convert_type(values, jnp.int32), -1)

    def step(i: Integer[ArrayLike, ""], largest: Integer[ArrayLike, ""]) -> Int[Array, ""]:
        candidate = largest | (1 << (30 - i))
        enough = (bits >= candidate).sum(dtype=jnp.int32) >= k
        return jnp.where(enough, candidate, largest)

    return lax.bitcast_convert_type(lax.fori_loop(0, 31, step, vary_like(jnp.int32(0), bits, k)), jnp.float32)


def _check_range(name: str, value: float | None, *, zero: bool = False) -> None:
    if value is not None and not (0 < value <= 1 or (zero and value == 0)):
        raise UserError(f"`{name}` must be in {'[' if zero else '('}0, 1], got {value}.")


def _check_pixel_weights(pixel_weights: Float[ArrayLike, "..."], labels: Integer[ArrayLike, "..."]) -> None:
    if pixel_weights.shape != labels.shape:
        raise UserError(
            f"`pixel_weights` has shape {pixel_weights.shape}, expected one weight per pixel: {labels.shape}."
        )
