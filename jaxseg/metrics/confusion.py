"""The confusion matrix, counted on the device where the predictions are."""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int, Integer

from jaxseg.checks import UserError
from jaxseg.metrics.report import scores
from jaxseg.metrics.tally import Metric, Tally

_ONE_HOT_BUDGET = 2**20  # entries of a one-hot chunk: stays in a CPU's cache, keeps a GPU busy
_EXACT_IN_FLOAT32 = 2**24  # whole numbers up to here


def confusion_matrix(
    predictions: Integer[ArrayLike, "*b"],
    labels: Integer[ArrayLike, "*b"],
    *,
    num_classes: int,
    where: Bool[ArrayLike, "*b"] | None = None,
) -> Int[Array, "c c"]:
    """Counts the pixels of every (label, prediction) pair: rows are labels, columns predictions. Exact.

    The product of two one-hot matrices, a chunk of pixels at a time: no scatter, no one-hot of the whole batch, and
    float32 sums that stay below 2^24. Pixels whose label or prediction is not in [0, num_classes) are not counted. Sum
    matrices of batches as int64 on the host: int32 overflows at 2^31 pixels.

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
    labels = labels.astype(jnp.int32)
    if where is not None:
        labels = jnp.where(where, labels, -1)
    batch = labels.shape[0] if labels.ndim > 1 else 1
    # The batch stays an axis of its own, so that a batch spread over devices is counted where it lies.
    labels, predictions = labels.reshape(batch, -1), predictions.astype(jnp.int32).reshape(batch, -1)
    pixels = labels.shape[1]
    chunk = min(max(_ONE_HOT_BUDGET // max(batch * num_classes, 1), 1024), _EXACT_IN_FLOAT32, max(pixels, 1))
    chunks = -(-pixels // chunk)
    classes = jnp.arange(num_classes)[:, None]

    def in_chunks(ids: Integer[ArrayLike, "b n"]) -> Int[Array, "k b m"]:
        ids = jnp.pad(ids, ((0, 0), (0, chunks * chunk - pixels)), constant_values=-1)
        return ids.reshape(batch, chunks, chunk).swapaxes(0, 1)

    def count(total: Integer[ArrayLike, "b c c"], pair: tuple[Integer[ArrayLike, "b m"], Integer[ArrayLike, "b m"]]):
        rows, columns = ((ids[:, None] == classes).astype(jnp.float32) for ids in pair)
        return total + jnp.einsum("brm,bcm->brc", rows, columns).astype(jnp.int32), None

    zero = jnp.zeros((batch, num_classes, num_classes), jnp.int32)
    total, _ = lax.scan(count, zero, (in_chunks(labels), in_chunks(predictions)))
    return total.sum(0)


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
