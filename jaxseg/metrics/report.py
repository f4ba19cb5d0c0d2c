"""Scores of a confusion matrix, and their table: NumPy, float64, on the host."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Integer

from jaxseg.checks import UserError
from jaxseg.metrics.arrays import mean_of_known, ratio

Numbers = np.ndarray | np.float64


def scores(matrix: Integer[ArrayLike, "c c"] | Sequence[Sequence[int]], *, beta: float = 2.0) -> dict[str, Any]:
    """Returns the usual scores of a confusion matrix (rows are labels) as plain numbers, float64 throughout.

    With TP, FP and FN of each class. A class for which a score would be 0 / 0 is nan there and left out of the mean:
    for IoU and Dice a class that is neither labeled nor predicted, for accuracy one that is never labeled, for
    precision one that is never predicted. A class that was predicted but never labeled has IoU 0 and is in the mean.

    - `iou`: TP / (TP + FP + FN), and `miou`, its mean.
    - `dice`: 2 TP / (2 TP + FP + FN), which is F1, and `mean_dice`.
    - `accuracy`: TP / (TP + FN), the class's recall, and `mean_accuracy`.
    - `precision`: TP / (TP + FP), and `mean_precision`.
    - `frequency`: the class's share of the labeled pixels.
    - `pixel_accuracy`: Σ TP / pixels.
    - `frequency_weighted_iou`: Σ frequency · iou over the classes with a label.
    - `specificity`: TN / (TN + FP), and `mean_specificity`.
    - `f_beta`: (1 + β²) TP / ((1 + β²) TP + β² FN + FP), and `mean_f_beta` (van Rijsbergen, 1979).
    - `kappa`: (a - e) / (1 - e), agreement a beyond the agreement e of the two marginals by chance (Cohen, 1960).
    - `mcc`: the correlation of prediction and label, Matthews' coefficient for any number of classes (Gorodkin, 2004).

    Args:
      matrix: counts, integers [c, c].
      beta: β > 0 of `f_beta`: recall is β times as important as precision.

    >>> result = scores([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    >>> result["iou"], round(result["miou"], 3)
    ([0.75, 0.8, nan], 0.775)
    >>> result["pixel_accuracy"]
    0.875
    """
    matrix = _checked(matrix, beta)
    right = np.diag(matrix).astype(np.float64)
    labeled = matrix.sum(1, dtype=np.int64).astype(np.float64)
    predicted = matrix.sum(0, dtype=np.int64).astype(np.float64)
    pixels = labeled.sum()
    iou = ratio(right, labeled + predicted - right)
    dice = ratio(2 * right, labeled + predicted)
    accuracy = ratio(right, labeled)
    precision = ratio(right, predicted)
    frequency = ratio(labeled, np.full_like(labeled, pixels))
    negative = pixels - labeled
    specificity = ratio(negative - (predicted - right), negative)
    f_beta = ratio((1 + beta**2) * right, beta**2 * labeled + predicted)
    kappa, mcc = _agreement(right, labeled, predicted, pixels)
    present = labeled > 0
    return {
        "miou": mean_of_known(iou),
        "mean_dice": mean_of_known(dice),
        "pixel_accuracy": float(ratio(right.sum(), pixels)),
        "mean_accuracy": mean_of_known(accuracy),
        "mean_precision": mean_of_known(precision),
        "frequency_weighted_iou": float((frequency * iou)[present].sum()) if present.any() else float("nan"),
        "mean_specificity": mean_of_known(specificity),
        "mean_f_beta": mean_of_known(f_beta),
        "kappa": kappa,
        "mcc": mcc,
        "iou": iou.tolist(),
        "dice": dice.tolist(),
        "accuracy": accuracy.tolist(),
        "precision": precision.tolist(),
        "frequency": frequency.tolist(),
        "specificity": specificity.tolist(),
        "f_beta": f_beta.tolist(),
    }


def _checked(matrix: Any, beta: float) -> np.ndarray:
    """Returns the matrix as an array; raises for what is no matrix of counts, and for a β that weighs nothing."""
    if not 0 < beta < np.inf:
        raise UserError(f"`beta` must be a positive number, got {beta}. Use 1 for Dice, 2 to weigh recall more.")
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.issubdtype(matrix.dtype, np.integer):
        raise UserError(
            f"Expected a square matrix of counts (integers), got {matrix.dtype} of shape {matrix.shape}."
            " Pass the sum of confusion_matrix over the batches, as int64."
        )
    return matrix


def _agreement(
    right: np.ndarray, labeled: np.ndarray, predicted: np.ndarray, pixels: np.float64
) -> tuple[float, float]:
    """Cohen's kappa and Matthews' correlation, of shares: products of counts would lose digits past 2^53."""
    if not pixels:
        return float("nan"), float("nan")
    observed, p, q = right.sum() / pixels, labeled / pixels, predicted / pixels
    chance = float(p @ q)
    spread = np.sqrt((1 - p @ p) * (1 - q @ q))
    return tuple(float(ratio(np.float64(observed - chance), np.float64(x))) for x in (1 - chance, spread))


def format_results(results: Mapping[str, Mapping[str, Any]], classes: Sequence[str]) -> str:
    """Returns the results of metrics other than the confusion matrix as text: a table per class, then single numbers.

    Details, which are dicts, are left out; a score that is 0 / 0 is a dash.

    >>> print(format_results({"calibration": {"ece": 0.0312, "class_ece": [0.01, float("nan")]}}, ["sky", "car"]))
    class  class_ece
    ----------------
    sky       0.0100
    car            -
    <BLANKLINE>
    calibration: ece 0.0312
    """
    flat = {key: value for result in results.values() for key, value in result.items()}
    columns = {key: value for key, value in flat.items() if isinstance(value, list)}
    blocks = []
    if columns:
        name_width = max([5, *map(len, classes)])
        widths = [max(8, len(key) + 2) for key in columns]
        lines = ["class".ljust(name_width) + "".join(k.rjust(w) for k, w in zip(columns, widths, strict=True))]
        lines.append("-" * len(lines[0]))
        for i, name in enumerate(classes):
            cells = [_number(value[i]).rjust(w) for value, w in zip(columns.values(), widths, strict=True)]
            lines.append(name.ljust(name_width) + "".join(cells))
        blocks.append("\n".join(lines))
    singles = {
        metric: "   ".join(f"{key} {_number(value)}" for key, value in result.items() if isinstance(value, float))
        for metric, result in results.items()
    }
    blocks.append("\n".join(f"{metric}: {text}" for metric, text in singles.items() if text))
    return "\n\n".join(filter(None, blocks))


def format_table(scores: dict[str, Any], classes: Sequence[str]) -> str:
    """Returns the per-class table of `scores`, as fractions, then the means; an absent class has dashes.

    The column "share" is the class's part of the labels' pixels.

    >>> print(format_table(scores([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), ["sky", "road", "car"]))
    class   share     IoU    Dice  accuracy  precision
    --------------------------------------------------
    sky    0.5000  0.7500  0.8571    0.7500     1.0000
    road   0.5000  0.8000  0.8889    1.0000     0.8000
    car    0.0000       -       -         -          -
    --------------------------------------------------
    mean           0.7750  0.8730    0.8750     0.9000
    <BLANKLINE>
    mIoU 0.7750   pixel accuracy 0.8750   frequency-weighted IoU 0.7750
    kappa 0.7500   MCC 0.7746   (fractions of 1; 2 of 3 classes present)
    """
    if len(classes) != len(scores["iou"]):
        raise UserError(f"The scores are of {len(scores['iou'])} classes, but {len(classes)} names were given.")
    name_width = max([5, *map(len, classes)])
    columns = {"frequency": "share", "iou": "IoU", "dice": "Dice", "accuracy": "accuracy", "precision": "precision"}
    widths = [max(8, len(title) + 2) for title in columns.values()]

    def line(name: str, cells: Sequence[str]) -> str:
        return (name.ljust(name_width) + "".join(c.rjust(w) for c, w in zip(cells, widths, strict=True))).rstrip()

    header = line("class", list(columns.values()))
    rule = "-" * (name_width + sum(widths))
    rows = [line(name, [_number(scores[key][i]) for key in columns]) for i, name in enumerate(classes)]
    means = [scores[key] for key in ("miou", "mean_dice", "mean_accuracy", "mean_precision")]
    present = int(np.isfinite(scores["iou"]).sum())
    summary = (
        f"mIoU {_number(scores['miou'])}   pixel accuracy {_number(scores['pixel_accuracy'])}   frequency-weighted IoU"
        f" {_number(scores['frequency_weighted_iou'])}"
    )
    agreement = (
        f"kappa {_number(scores['kappa'])}   MCC {_number(scores['mcc'])}   (fractions of 1; {present} of"
        f" {len(classes)} classes present)"
    )
    return "\n".join([header, rule, *rows, rule, line("mean", ["", *map(_number, means)]), "", summary, agreement])


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4f}"
