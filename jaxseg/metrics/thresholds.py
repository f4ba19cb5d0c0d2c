"""Scores of thresholded probabilities: one binary mask, several overlapping masks, or one class against all."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Integer

from jaxseg.checks import UserError
from jaxseg.metrics.arrays import mean_of_known, ratio
from jaxseg.metrics.tally import Metric, Tally, check_probabilities

THRESHOLDS = tuple(i / 20 for i in range(21))

# Bins of `probability_histogram`, by the bits of a float32: 16 an octave of p below 1/2, and from there on 64 an octave
# of 1 - p, in which p has no digits below 2^-24.
_LOW = 126 * 16  # bins below 1/2; the first one holds 0
_SHIFTS = 23 - 4, 23 - 6  # that leave 4 and 6 bits of the mantissa
_LEAST = 103 * 64 - 1  # of 1 - p = 2^-24, the smallest above 0, less one
_HIGH = 126 * 64 - _LEAST  # of 1 - p = 1/2
BINS = _LOW + _HIGH + 1
_SINGLE = 110 * 64 - 1 - _LEAST  # of the largest 1 - p whose bin holds a single float32


def threshold_counts(
    probabilities: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"] | Integer[ArrayLike, "b h w c"],
    *,
    thresholds: Sequence[float] = (0.5,),
    where: Bool[ArrayLike, "b h w"] | None = None,
) -> Int[Array, "4 t c"]:
    """Counts TP, FP, FN and TN of every class, where a probability of at least the threshold is a prediction. Exact.

    Args:
      probabilities: in [0, 1], per class (sigmoid) or of mutually exclusive classes (softmax).
      labels: class ids [b, h, w], each class against all others (with one class, 1 is foreground and 0 is not), or
        masks of 0 and 1 [b, h, w, c], which may overlap. Never read where `where` is False.
      thresholds: each in [0, 1].
      where: valid pixels (None means all).

    >>> probabilities, labels = jnp.array([[[[0.9], [0.4], [0.6]]]]), jnp.array([[[1, 1, 0]]])
    >>> threshold_counts(probabilities, labels, thresholds=(0.5,)).ravel().tolist()
    [1, 1, 1, 0]
    """
    cuts = _check_thresholds(thresholds)
    truth = _masks(probabilities, labels, where)
    counted = jnp.ones(truth.shape[:3], bool) if where is None else where
    truth = truth & counted[..., None]
    positive, total = truth.sum((0, 1, 2), dtype=jnp.int32), counted.sum(dtype=jnp.int32)

    def count(cut: Float[ArrayLike, ""]) -> tuple[Array, Array]:
        guess = (probabilities >= cut) & counted[..., None]
        return (guess & truth).sum((0, 1, 2), dtype=jnp.int32), guess.sum((0, 1, 2), dtype=jnp.int32)

    right, predicted = lax.map(count, cuts)
    positive = positive[None]
    return jnp.stack([right, predicted - right, positive - right, total - predicted - positive + right])


def binary_scores(counts: Int[ArrayLike, "4 ..."], *, beta: float = 2.0) -> dict[str, np.ndarray]:
    """Returns the scores of counts of TP, FP, FN and TN, float64[...] each; 0 / 0 is nan.

    `iou`, `dice`, `precision`, `recall`, `specificity`, `f_beta`, `accuracy`, `kappa` (Cohen, 1960) and `mcc`
    (Matthews, 1975).

    Args:
      counts: integers; what `threshold_counts` returned, added up as int64.
      beta: β > 0 of F-β: recall is β times as important as precision.

    >>> result = binary_scores(np.array([3, 1, 1, 5]))
    >>> result["iou"].item(), result["dice"].item(), round(result["mcc"].item(), 4)
    (0.6, 0.75, 0.5833)
    """
    if not 0 < beta < np.inf:
        raise UserError(f"`beta` must be a positive number, got {beta}. Use 1 for Dice, 2 to weigh recall more.")
    tp, fp, fn, tn = np.asarray(counts, np.int64)
    pixels = tp + fp + fn + tn
    # Shares of whole numbers: a product of counts would lose digits, a sum of shares would miss 1.
    labeled, predicted = ratio(tp + fn, pixels), ratio(tp + fp, pixels)
    unlabeled, unpredicted = ratio(fp + tn, pixels), ratio(fn + tn, pixels)
    accuracy, chance = ratio(tp + tn, pixels), labeled * predicted + unlabeled * unpredicted
    covariance = ratio(tp, pixels) - labeled * predicted
    return {
        "iou": ratio(tp, tp + fp + fn),
        "dice": ratio(2 * tp, 2 * tp + fp + fn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "specificity": ratio(tn, fp + tn),
        "f_beta": ratio((1 + beta**2) * tp, (1 + beta**2) * tp + beta**2 * fn + fp),
        "accuracy": accuracy,
        "kappa": ratio(accuracy - chance, 1 - chance),
        "mcc": ratio(covariance, np.sqrt(labeled * unlabeled * predicted * unpredicted)),
    }


def average_precision(counts: Int[ArrayLike, "4 t c"]) -> Float[np.ndarray, " c"]:
    """Returns Σ (R_i - R_{i-1}) P_i from the highest threshold to the lowest, the area under the stairs.

    It is nan for a class without labels. Probabilities between two neighboring thresholds are treated as equal.

    >>> average_precision(np.array([[[1], [2]], [[0], [2]], [[1], [0]], [[2], [0]]])[:, ::-1]).tolist()
    [0.75]
    """
    result = binary_scores(np.asarray(counts)[:, ::-1])
    recall, precision = result["recall"], np.nan_to_num(result["precision"])
    return (np.diff(recall, axis=0, prepend=0.0) * precision).sum(0)


def probability_histogram(
    probabilities: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"] | Integer[ArrayLike, "b h w c"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
) -> Int[Array, "2 c n"]:
    """Counts the pixels of every class, those of other labels and its own, by their probability in n = `BINS` bins.

    The bins are as fine near 0 and 1, in proportion, as in between: there a trained network puts most pixels. Each
    float32 above 1 - 2^-17 has a bin of its own. This is a scatter, of integers, whose order does not matter.

    Args:
      probabilities: in [0, 1].
      labels: as for `threshold_counts`.
      where: valid pixels (None means all).

    >>> found = probability_histogram(jnp.array([[[[0.0], [0.4], [1.0]]]]), jnp.array([[[0, 0, 1]]]))
    >>> found.shape, found.sum(-1).tolist(), found[1, 0, -1].item()
    ((2, 1, 3490), [[2], [1]], 1)
    """
    truth = _masks(probabilities, labels, where)
    p = probabilities.astype(jnp.float32)
    below, above = (
        lax.bitcast_convert_type(jnp.maximum(x, 0.0), jnp.int32) >> shift
        for x, shift in zip((p, 1 - p), _SHIFTS, strict=True)
    )
    place = jnp.where(p < 0.5, below, _LOW + _HIGH - jnp.clip(above - _LEAST, 0, _HIGH))
    classes = p.shape[-1]
    ids = lax.broadcasted_iota(jnp.int32, place.shape, place.ndim - 1)
    place = (truth.astype(jnp.int32) * classes + ids) * BINS + place
    if where is not None:
        place = jnp.where(where[..., None], place, 2 * classes * BINS)  # outside, and so dropped
    return jnp.zeros(2 * classes * BINS, jnp.int32).at[place].add(1, mode="drop").reshape(2, classes, BINS)


def histogram_precision(histogram: Int[ArrayLike, "2 c n"]) -> Float[np.ndarray, " c"]:
    """Returns the average precision of every class from `probability_histogram`; nan for a class without labels.

    Within a bin of several values it is the mean over all orders of the bin's pixels, which is within 1e-4 of what
    their own order gives; pixels of one value are one step, as in `average_precision`.

    >>> histogram = np.zeros((2, 1, BINS), int)
    >>> histogram[:, 0, -1], histogram[:, 0, 9] = (1, 1), (0, 1)
    >>> histogram_precision(histogram).round(4).tolist()  # half of the labels at a precision of 1/2, half at 2/3
    [0.5833]
    """
    from scipy.special import digamma

    others, own = np.asarray(histogram, np.float64)[..., ::-1]
    pixels, right = (x.cumsum(-1) for x in (others + own, own))
    before, right_before = pixels - others - own, right - own
    # The j-th pixel of a bin of n, if it is one of the class's m, has on average (j - 1) (m - 1) / (n - 1) of these
    # before it. Its precision is that over its place among all, and the sum over j has a closed form.
    share = ratio(own - 1, others + own - 1)
    share = np.where(others + own > 1, share, 0.0)
    spread = (right_before + 1 - share - share * before) * (digamma(pixels + 1) - digamma(before + 1))
    mean = np.nan_to_num(ratio(share * (others + own) + spread, others + own))
    single = np.zeros(BINS, bool)
    single[: _SINGLE + 1] = single[-1] = True
    single = single | (right == pixels)  # where no order matters, to the last bit
    precision = np.where(single, np.nan_to_num(ratio(right, pixels)), mean)
    return ratio((own * precision).sum(-1), own.sum(-1))


def threshold_scores(*, thresholds: Sequence[float] = THRESHOLDS) -> Metric:
    """Returns the metric of every class against all others: `average_precision` and its mean; Dice at thresholds.

    `average_precision` is that of `histogram_precision`, over all probabilities, whatever the thresholds are.
    `best_dice` is the largest Dice of any threshold, `best_threshold` the one that has it.

    Args:
      thresholds: increasing, each in [0, 1].

    >>> metric = threshold_scores(thresholds=(0.0, 0.5))
    >>> labels, probabilities = jnp.array([[[0, 1]]]), jnp.array([[[[0.9, 0.1], [0.2, 0.8]]]])
    >>> metric.result(metric.update(probabilities, labels, where=None, num_classes=2))["average_precision"]
    [1.0, 1.0]
    """
    cuts = np.asarray(_check_thresholds(thresholds))
    if (np.diff(cuts) <= 0).any():
        raise UserError(f"`thresholds` must increase, got {tuple(thresholds)}. Sort them and name each once.")

    def update(
        probabilities: Float[ArrayLike, "b h w c"],
        labels: Integer[ArrayLike, "b h w"],
        *,
        where: Bool[ArrayLike, "b h w"] | None,
        num_classes: int,
    ) -> Tally:
        check_probabilities(probabilities, labels, where, "thresholds")
        counts = threshold_counts(probabilities, labels, thresholds=thresholds, where=where)
        return Tally({"counts": counts, "histogram": probability_histogram(probabilities, labels, where=where)}, {})

    def result(tally: Tally) -> dict[str, Any]:
        counts = np.asarray(tally.sums["counts"])
        precisions, dice = histogram_precision(tally.sums["histogram"]), binary_scores(counts)["dice"]
        best = np.argmax(np.nan_to_num(dice, nan=-1.0), axis=0)
        return {
            "mean_average_precision": mean_of_known(precisions),
            "average_precision": precisions.tolist(),
            "best_dice": np.take_along_axis(dice, best[None], 0)[0].tolist(),
            "best_threshold": [float(t) for t in np.asarray(thresholds, np.float64)[best]],
            "threshold_counts": {
                "thresholds": [float(t) for t in thresholds],
                **{name: c.tolist() for name, c in zip(("tp", "fp", "fn", "tn"), counts, strict=True)},
            },
        }

    return Metric("probabilities", update, result)


def _masks(
    probabilities: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"] | Integer[ArrayLike, "b h w c"],
    where: Bool[ArrayLike, "b h w"] | None,
) -> Bool[Array, "b h w c"]:
    """Returns the labels as one mask per class."""
    if labels.ndim != probabilities.ndim:
        check_probabilities(probabilities, labels, where, "thresholds")
        first = 1 if probabilities.shape[-1] == 1 else 0  # of one class, 1 is foreground
        ids = first + lax.broadcasted_iota(jnp.int32, probabilities.shape, probabilities.ndim - 1)
        return labels.astype(jnp.int32)[..., None] == ids
    if labels.shape != probabilities.shape:
        raise UserError(
            f"Probabilities {probabilities.shape} and masks {labels.shape} disagree: expected equal shapes, one mask"
            " per class."
        )
    if where is not None and where.shape != labels.shape[:-1]:
        raise UserError(f"`where` has shape {where.shape}, expected the pixels' {labels.shape[:-1]}.")
    return labels.astype(bool)


def _check_thresholds(thresholds: Sequence[float]) -> Float[Array, " t"]:
    values = np.asarray(thresholds, np.float32)
    if values.ndim != 1 or not values.size or not ((values >= 0) & (values <= 1)).all():
        raise UserError(f"`thresholds` must be one or more numbers from 0 to 1, got {thresholds!r}.")
    return jnp.asarray(values)
