"""Charts: the confusion matrix, the spread of scores, and the training curves of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.files import atomic_path
from jaxseg.metrics import scores
from jaxseg.visualize.images import as_percent

_NUMBERED = 24  # largest number of classes whose confusion matrix has numbers in it


def confusion_figure(matrix: np.ndarray, classes: Sequence[str], path: str | Path) -> None:
    """Writes a PNG of a confusion matrix, every row in percent of its label's pixels; gray if there are none."""
    from matplotlib.figure import Figure

    matrix = np.asarray(matrix)
    result, count = scores(matrix), len(classes)
    total = matrix.sum(1, keepdims=True)
    values = np.divide(100.0 * matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
    cell = max(0.46 * min(1, _NUMBERED / count), 0.13)  # inches
    side, tick = 2.6 + cell * count, min(9, 54 * cell)
    figure = Figure(figsize=(side + 0.9, side), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("0.93")
    drawn = axes.imshow(values, cmap="Blues", vmin=0, vmax=100)
    shares = [f"{name}  {as_percent(f)}" for name, f in zip(classes, result["frequency"], strict=True)]
    axes.set_xticks(range(count), classes, rotation=90, fontsize=tick, parse_math=False)  # "$" is a letter here
    axes.set_yticks(range(count), shares, fontsize=tick, parse_math=False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label, and its share of the pixels")
    axes.set_title(f"percent of each label's pixels;  mIoU {100 * result['miou']:.1f}", fontsize=10)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if count <= _NUMBERED:
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
        for (i, j), value in np.ndenumerate(values):
            if value >= 0.5:
                color = "white" if value > 55 else "0.15"
                axes.text(j, i, f"{value:.0f}", ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(drawn, ax=axes, shrink=0.75, label="%").outline.set_visible(False)
    with atomic_path(path) as part:
        figure.savefig(part)


def spread_figure(scores: Mapping[str, Any], classes: Sequence[str], path: str | Path) -> None:
    """Writes a PNG of every class's IoU with its bootstrap interval, and of its mean and deviation over images.

    Args:
      scores: of the metrics "confusion" and "spread" together, see `jaxseg.metrics`.
      classes: a name per class; those without a score are left out.
      path: the file to write.
    """
    from matplotlib.figure import Figure

    rows = {"mean": [scores[key] for key in ("miou", "miou_low", "miou_high", "image_miou", "image_miou_std")]}
    keys = ("iou", "iou_low", "iou_high", "image_iou", "image_iou_std")
    found = dict(zip(classes, zip(*(scores[key] for key in keys), strict=True), strict=True))
    rows |= dict(sorted(((n, v) for n, v in found.items() if not np.isnan(v[0])), key=lambda pair: -pair[1][0]))
    whole, low, high, mean, deviation = 100 * np.array(list(rows.values()), np.float64).T
    places = np.arange(len(rows))
    figure = Figure(figsize=(6.4, 1.3 + 0.26 * len(rows)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.hlines(places, np.maximum(mean - deviation, 0), np.minimum(mean + deviation, 100), color="0.82", linewidth=5)
    axes.plot(mean, places, "|", color="0.5", markersize=8, label="mean over images, ± their deviation")
    axes.hlines(places, low, high, color="tab:blue", linewidth=2)
    level = round(100 * scores["spread"]["level"])
    axes.plot(whole, places, "o", color="tab:blue", markersize=5, label=f"data set, {level} % bootstrap interval")
    axes.set_yticks(places, rows, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="IoU, %")
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", fontsize=8, frameon=False, ncols=2)
    with atomic_path(path) as part:
        figure.savefig(part)


def curves(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Writes a PNG of a run's metrics.jsonl: losses and learning rate; validation mIoU and pixel accuracy.

    Args:
      rows: {"kind": "train" or "eval", "step": int, "loss": float, …}; null values are left out.
      path: the file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    rate = left.twinx()
    (lr,) = rate.plot(*_series(rows, "train", "lr"), color="0.75", linewidth=1, label="learning rate")
    rate.set_ylabel("learning rate", color="0.5")
    rate.tick_params(colors="0.5")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    rate.set_ylim(bottom=0)
    left.set_zorder(rate.get_zorder() + 1)
    left.patch.set_visible(False)
    steps, loss = _series(rows, "train", "loss")
    left.plot(steps, loss, color="tab:blue", alpha=0.3, linewidth=1)
    (smoothed,) = left.plot(steps, _smooth(loss), color="tab:blue", label="training, smoothed")
    losses = _series(rows, "eval", "loss")
    (validation,) = left.plot(*losses, "o-", color="tab:orange", markersize=4, label="validation")
    left.set_title("loss")
    left.set_ylabel("loss")
    right.set_ylabel("mIoU, pixel accuracy (fractions of 1)")
    steps, miou = _series(rows, "eval", "miou")
    right.plot(*_series(rows, "eval", "pixel_accuracy"), "o-", color="0.7", markersize=3, label="pixel accuracy")
    right.plot(steps, miou, "o-", color="tab:green", markersize=4, label="mIoU")
    right.set_ylim(0, 1)
    right.set_title("validation: not evaluated")
    if miou:
        best = int(np.argmax(miou))
        right.axhline(miou[best], color="tab:green", linewidth=0.8, linestyle=":")
        right.set_title(f"validation: best mIoU {miou[best]:.4f} at step {steps[best]}")
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color="0.92")
    left.legend(handles=[smoothed, validation, lr], frameon=False)
    right.legend(frameon=False)
    for axes in (left, right, rate):
        axes.spines["top"].set_visible(False)
    with atomic_path(path) as part:
        figure.savefig(part)


def _series(rows: Sequence[Mapping[str, Any]], kind: str, key: str) -> tuple[list[int], list[float]]:
    points = [(row["step"], row[key]) for row in rows if row["kind"] == kind and row.get(key) is not None]
    return [step for step, _ in points], [value for _, value in points]


def _smooth(values: Sequence[float], share: float = 0.05) -> list[float]:
    """Moving average over a window of 5% of the points, narrower at the ends."""
    reach = int(len(values) * share / 2)
    return [float(np.mean(values[max(i - reach, 0) : i + reach + 1])) for i in range(len(values))]
