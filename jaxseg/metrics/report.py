"""Scores of a confusion matrix, and their table: NumPy, float64, on the host."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxseg.checks import UserError


def scores(matrix: np.ndarray) -> dict[str, Any]:
    """Returns the usual scores of a confusion matrix (rows are labels) as plain numbers, float64 throughout.

    With TP, FP and FN of each class. A class for which a score would be 0 / 0 is nan there and left out of the mean:
    for IoU and Dice one that neither label nor prediction holds, for accuracy one without a label, for precision one
    never predicted. A class that was predicted but never labelled has IoU 0 and is in the mean.

    - `iou`: TP / (TP + FP + FN), and `miou`, its mean.
    - `dice`: 2 TP / (2 TP + FP + FN), which is F1, and `mean_dice`.
    - `accuracy`: TP / (TP + FN), the class's recall, and `mean_accuracy`.
    - `precision`: TP / (TP + FP), and `mean_precision`.
    - `frequency`: the class's share of the labelled pixels.
    - `pixel_accuracy`: Σ TP / pixels.
    - `frequency_weighted_iou`: Σ frequency · iou over the classes with a label.

    >>> result = scores([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    >>> result["iou"], round(result["miou"], 3)
    ([0.75, 0.8, nan], 0.775)
    >>> result["pixel_accuracy"]
    0.875
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.issubdtype(matrix.dtype, np.integer):
        raise UserError(
            f"Expected a square matrix of counts (integers), got {matrix.dtype} of shape {matrix.shape}."
            " Pass the sum of confusion_matrix over the batches, as int64."
        )
    right = np.diag(matrix).astype(np.float64)
    labelled = matrix.sum(1, dtype=np.int64).astype(np.float64)
    predicted = matrix.sum(0, dtype=np.int64).astype(np.float64)
    pixels = labelled.sum()
    iou = _ratio(right, labelled + predicted - right)
    dice = _ratio(2 * right, labelled + predicted)
    accuracy = _ratio(right, labelled)
    precision = _ratio(right, predicted)
    frequency = _ratio(labelled, np.full_like(labelled, pixels))
    present = labelled > 0
    return {
        "miou": _mean(iou),
        "mean_dice": _mean(dice),
        "pixel_accuracy": float(_ratio(right.sum(), pixels)),
        "mean_accuracy": _mean(accuracy),
        "mean_precision": _mean(precision),
        "frequency_weighted_iou": float((frequency * iou)[present].sum()) if present.any() else float("nan"),
        "iou": iou.tolist(),
        "dice": dice.tolist(),
        "accuracy": accuracy.tolist(),
        "precision": precision.tolist(),
        "frequency": frequency.tolist(),
    }


def format_table(scores: dict[str, Any], classes: Sequence[str]) -> str:
    """Returns the per-class table of `scores`, in percent, then the means; an absent class has dashes.

    >>> print(format_table(scores([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), ["sky", "road", "car"]))
    class  pixels     IoU    Dice  accuracy  precision
    --------------------------------------------------
    sky     50.00   75.00   85.71     75.00     100.00
    road    50.00   80.00   88.89    100.00      80.00
    car      0.00       -       -         -          -
    --------------------------------------------------
    mean            77.50   87.30     87.50      90.00
    <BLANKLINE>
    mIoU 77.50   pixel accuracy 87.50   frequency-weighted IoU 77.50   (percent; 2 of 3 classes present)
    """
    if len(classes) != len(scores["iou"]):
        raise UserError(f"The scores are of {len(scores['iou'])} classes, but {len(classes)} names were given.")
    name_width = max([5, *map(len, classes)])
    columns = {"frequency": "pixels", "iou": "IoU", "dice": "Dice", "accuracy": "accuracy", "precision": "precision"}
    widths = [max(8, len(title) + 2) for title in columns.values()]

    def line(name: str, cells: Sequence[str]) -> str:
        return (name.ljust(name_width) + "".join(c.rjust(w) for c, w in zip(cells, widths, strict=True))).rstrip()

    header = line("class", list(columns.values()))
    rule = "-" * (name_width + sum(widths))
    rows = [line(name, [_percent(scores[key][i]) for key in columns]) for i, name in enumerate(classes)]
    means = [scores[key] for key in ("miou", "mean_dice", "mean_accuracy", "mean_precision")]
    present = int(np.isfinite(scores["iou"]).sum())
    summary = (
        f"mIoU {_percent(scores['miou'])}   pixel accuracy {_percent(scores['pixel_accuracy'])}   frequency-weighted"
        f" IoU {_percent(scores['frequency_weighted_iou'])}   (percent; {present} of {len(classes)} classes present)"
    )
    return "\n".join([header, rule, *rows, rule, line("mean", ["", *map(_percent, means)]), "", summary])


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """0 / 0 is nan, without a warning."""
    return np.divide(numerator, denominator, out=np.full_like(denominator, np.nan), where=denominator > 0)


def _mean(values: np.ndarray) -> float:
    """Of the values that exist; nan if none does."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.2f}"
