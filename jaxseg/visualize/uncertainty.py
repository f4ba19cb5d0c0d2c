"""Figures of uncertainty: reliability diagrams, and maps over an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.checks import UserError
from jaxseg.files import atomic_path


def reliability_figure(diagrams: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Writes a PNG of reliability diagrams side by side (Guo et al., 2017, arXiv:1706.04599, fig. 1).

    Above: accuracy against the probability of the predicted class, with the gap to the diagonal; where the bar is under
    the diagonal, the model is too sure of itself. Below: the share of the pixels in each bin.

    Args:
      diagrams: title -> {"edges", "pixels", "probability", "accuracy", "ece"}, the metric "calibration"'s.
      path: the file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(diagrams) + 0.4, 5.4), dpi=120, layout="constrained")
    axes = figure.subplots(2, len(diagrams), squeeze=False, sharex=True, height_ratios=(3, 1))
    for (title, found), (top, bottom) in zip(diagrams.items(), axes.T, strict=True):
        edges, pixels = np.asarray(found["edges"]), np.asarray(found["pixels"], np.float64)
        accuracy, probability = (np.asarray(found[key], np.float64) for key in ("accuracy", "probability"))
        left, width = edges[:-1], np.diff(edges)
        bars = dict(width=width, align="edge", edgecolor="white", linewidth=0.5)
        gap = np.nan_to_num(probability - accuracy)
        top.bar(left, np.nan_to_num(accuracy), color="tab:blue", label="accuracy", **bars)
        top.bar(left, gap, bottom=np.nan_to_num(accuracy), color="tab:red", alpha=0.35, label="gap", **bars)
        top.plot([0, 1], [0, 1], color="0.4", linewidth=1, linestyle="--")
        top.set(ylim=(0, 1), xlim=(0, 1))
        top.set_title(f"{title}: ECE {found['ece']:.4f}", fontsize=10)
        top.legend(frameon=False, loc="upper left", fontsize=9)
        bottom.bar(left, pixels / max(pixels.sum(), 1), color="0.6", **bars)
        bottom.set_xlabel("probability of the predicted class")
        for part in (top, bottom):
            part.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("accuracy")
    axes[1, 0].set_ylabel("share of pixels")
    with atomic_path(path) as part:
        figure.savefig(part)


def heat(values: np.ndarray, *, top: float | None = None) -> np.ndarray:
    """Returns uint8[h, w, 3], black at 0 through red and orange to pale yellow at `top`.

    Args:
      values: float[h, w], at least 0; nan is gray.
      top: the value of the palest color; None is the largest value.

    >>> heat(np.array([[0.0, 2.0]]))[0].tolist()
    [[0, 0, 4], [252, 255, 164]]
    """
    from matplotlib import colormaps

    values = np.asarray(values, np.float64)
    if values.ndim != 2:
        raise UserError(f"Expected a map [h, w], got shape {values.shape}. Pass one map of one image.")
    top = top if top is not None else np.nanmax(values, initial=0.0)
    colored = colormaps["inferno"](np.nan_to_num(values) / (top or 1.0))[..., :3]
    colored[np.isnan(values)] = 0.5
    return np.round(255 * colored).astype(np.uint8)


def uncertainty_figure(
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    path: str | Path,
    *,
    label_maps: Mapping[str, np.ndarray] | None = None,
    palette: Sequence[tuple[int, int, int]] = (),
) -> None:
    """Writes a PNG of an image, its label maps and its maps of uncertainty in a row, each map with its scale in nats.

    Args:
      image: uint8[h, w, 3].
      maps: title -> float[h, w], e.g. the entropy and the mutual information of `inference.uncertainty`.
      path: the file to write.
      label_maps: title -> int[h, w], drawn before the maps.
      palette: a color per class, for them.
    """
    from matplotlib.figure import Figure

    from jaxseg.visualize.images import colorize

    shown = {"image": image} | {name: colorize(label, palette) for name, label in (label_maps or {}).items()}
    count = len(shown) + len(maps)
    size = 3.1 * count, min(3.0 * image.shape[0] / image.shape[1], 9.0) + 0.9
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for part, (title, sample) in zip(axes, shown.items(), strict=False):
        part.imshow(sample, interpolation="nearest")
        part.set_title(title, fontsize=10)
    for part, (title, values) in zip(axes[len(shown) :], maps.items(), strict=True):
        drawn = part.imshow(values, cmap="inferno", vmin=0, interpolation="nearest")
        part.set_title(title, fontsize=10)
        bar = figure.colorbar(drawn, ax=part, location="bottom", fraction=0.06, pad=0.02, label="nats")
        bar.outline.set_visible(False)
    for part in axes:
        part.set_anchor("N")
        part.set_axis_off()
    with atomic_path(path) as part:
        figure.savefig(part)
