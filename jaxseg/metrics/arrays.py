"""Ratios, means and counts of NumPy arrays on the host, in which 0 / 0 is nan."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer


def ratio(numerator: Any, denominator: Any) -> Float[np.ndarray, "..."]:
    """Returns numerator / denominator in float64; nan, without a warning, where the denominator is not positive.

    >>> ratio([1, 0], [4, 0]).tolist()
    [0.25, nan]
    """
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(numerator, denominator, out=np.full_like(denominator, np.nan), where=denominator > 0)


def finite_mean(values: Float[np.ndarray, "..."], axis: int = 0) -> Float[np.ndarray, "..."]:
    """Returns the mean of the finite values along `axis`; nan where there are none.

    >>> finite_mean(np.array([[1.0, np.nan], [2.0, np.nan]])).tolist()
    [1.5, nan]
    """
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0.0).sum(axis), known.sum(axis))


def mean_of_known(values: Float[np.ndarray, " n"]) -> float:
    """Returns the mean of the values that are not nan; nan if there are none.

    >>> mean_of_known(np.array([1.0, np.nan]))
    1.0
    """
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def count_pairs(
    labels: Integer[np.ndarray, "..."], predictions: Integer[np.ndarray, "..."], num_classes: int, *, ignore: int
) -> Int[np.ndarray, "c c"]:
    """Returns the confusion matrix of NumPy arrays: rows are labels, columns predictions.

    Args:
      labels: class ids in [0, num_classes), or `ignore`.
      predictions: class ids in [0, num_classes).
      num_classes: c, of the result.
      ignore: pixels with this label are not counted.

    >>> count_pairs(np.array([0, 1, 255]), np.array([1, 1, 0]), 2, ignore=255).tolist()
    [[0, 1], [0, 1]]
    """
    valid = labels != ignore
    pairs = labels[valid].astype(np.int64) * num_classes + predictions[valid]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
