"""The confusion matrix, counted on the device where the predictions are."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int, Integer

from jaxseg.checks import UserError
from jaxseg.metrics.report import scores
from jaxseg.metrics.tally import Metric, Tally


def confusion_matrix(
    predictions: Integer[ArrayLike, "*b"],
    labels: Integer[ArrayLike, "*b"],
    *,
    num_classes: int,
    where: Bool[ArrayLike, "*b"] | None = None,
) -> Int[Array, "c c"]:
    """Counts the pixels of every (label, prediction) pair: rows are labels, columns predictions. Exact.

    Every pixel adds one to its entry, a scatter of integers, whose sum is the same in any order. Pixels whose label or
    prediction is not in [0, num_classes) are not counted. Sum matrices of batches as int64 on the host: int32 overflows
    at 2^31 pixels.

    Args:
      predictions: class ids in [0, num_classes).
      labels: class ids in [0, num_classes); never read where `where` is False.
      num_classes: rows and columns of the matrix.
      where: valid pixels (None means all).

    >>> labels, predictions = jnp.array([[0, 0, 1, 2]]), jnp.array([[0, 1, 1, 0]])
    >>> confusion_matrix(predictions, labels, num_classes=2).tolist()  # the pixel labeled 2 is no class of two
    [[1, 1], [0, 1]]
    >>> where = jnp.array([[True, False, True, True]])
    >>> confusion_matrix(predictions, labels, num_classes=2, where=where).tolist()
    [[1, 0], [0, 1]]
    """
    check_predictions(predictions, labels, where)
    labels, predictions = labels.astype(jnp.int32), predictions.astype(jnp.int32)
    known = (labels >= 0) & (labels < num_classes) & (predictions >= 0) & (predictions < num_classes)
    if where is not None:
        known = known & where
    entries = num_classes * num_classes
    entry = jnp.where(known, labels * num_classes + predictions, entries)
    # The batch stays an axis of its own, so that a batch spread over devices is counted where it lies.
    entry = entry.reshape(entry.shape[0] if entry.ndim > 1 else 1, -1)

    def count(entry: Int[Array, " n"]) -> Int[Array, " k"]:
        return jnp.zeros(entries, jnp.int32).at[entry].add(1, mode="drop")

    return jax.vmap(count)(entry).sum(0).reshape(num_classes, num_classes)


def confusion_scores(*, beta: float = 2.0) -> Metric:
    """Returns the metric of every score of the confusion matrix: `scores` of the sum of `confusion_matrix`.

    Args:
      beta: of the F-β score, positive; see `scores`.

    >>> confusion_scores().needs
    'predictions'
    """

    def update(
        predictions: Integer[ArrayLike, "b h w"],
        labels: Integer[ArrayLike, "b h w"],
        *,
        where: Bool[ArrayLike, "b h w"] | None,
        num_classes: int,
    ) -> Tally:
        return Tally({"matrix": confusion_matrix(predictions, labels, num_classes=num_classes, where=where)}, {})

    return Metric("predictions", update, lambda tally: scores(tally.sums["matrix"], beta=beta))


def check_predictions(predictions: Any, labels: Any, where: Any) -> None:
    """Raises, at trace time, unless predictions and labels are class ids of one shape, and `where` is of it."""
    for name, array in (("Predictions", predictions), ("Labels", labels)):
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise UserError(f"{name} must be integers, got {array.dtype}. Pass class ids, the argmax of the logits.")
    if predictions.shape != labels.shape:
        raise UserError(
            f"Predictions {predictions.shape} and labels {labels.shape} disagree: expected equal shapes, one class id"
            " per pixel."
        )
    if where is not None and where.shape != labels.shape:
        raise UserError(f"`where` has shape {where.shape}, expected the labels' {labels.shape}.")
