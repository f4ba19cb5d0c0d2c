"""Figures of losses: the surface over two probabilities, and the gradient on an example."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from jaxseg.files import atomic_path

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure


def losses_figure(
    maps: Mapping[str, Mapping[str, np.ndarray]],
    label: Int[np.ndarray, "h w"],
    probability: Float[np.ndarray, "h w"],
    path: str | Path,
    *,
    columns: int = 5,
) -> None:
    """Writes a PNG: the example, then two panels for each loss, one above the other.

    Args:
      maps: name -> {"surface": float[p, p], "push": float[h, w]}, of `jaxseg.analysis.loss_maps`.
      label: int[h, w], 1 where the object is.
      probability: float[h, w], of the object.
      path: the file to write.
      columns: panels in a row, the example's among them.
    """
    from matplotlib.figure import Figure

    names = [None, *maps]
    rows = -(-len(names) // columns)
    columns = min(columns, len(names))
    figure = Figure(figsize=(2.6 * columns, 5.0 * rows), dpi=90, layout="constrained")
    panels = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in panels.ravel():
        axes.set_axis_off()
    _example(panels[:2, 0], label, probability)
    for n, name in enumerate(names[1:], start=1):
        upper, lower = panels[2 * (n // columns) : 2 * (n // columns) + 2, n % columns]
        _surface(figure, upper, name, maps[name]["surface"], first=n == 1)
        _push(lower, maps[name]["push"], label)
    with atomic_path(path) as part:
        figure.savefig(part)


def _example(axes: np.ndarray, label: Int[np.ndarray, "h w"], probability: Float[np.ndarray, "h w"]) -> None:
    for panel, shown, title in zip(axes, (label, probability), ("label", "probability"), strict=True):
        panel.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        panel.contour(label, levels=[0.5], colors="#e8b34b", linewidths=1.2)
        panel.set_title(title, fontsize=9)


def _surface(
    figure: "matplotlib.figure.Figure",
    axes: "matplotlib.axes.Axes",
    name: str,
    surface: Float[np.ndarray, "p q"],
    *,
    first: bool,
) -> None:
    """Darker is less; the right answer is the upper left corner: 1 on the object, 0 elsewhere."""
    drawn = axes.contourf(surface, levels=16, cmap="viridis", extent=(0.01, 0.99, 0.01, 0.99))
    axes.set_title(name, fontsize=9)
    axes.set_axis_on()
    axes.set_aspect("equal")
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    axes.tick_params(labelsize=7, length=2)
    axes.spines[:].set_visible(False)
    if first:
        axes.set_xlabel("p of the others", fontsize=8)
        axes.set_ylabel("p of the object", fontsize=8)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6, length=2)


def _push(axes: "matplotlib.axes.Axes", push: Float[np.ndarray, "h w"], label: Int[np.ndarray, "h w"]) -> None:
    """Red lifts the class, blue lowers it; the scale is each loss's own."""
    most = np.percentile(np.abs(push), 99.5) or 1.0
    axes.imshow(push, cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
    axes.contour(label, levels=[0.5], colors="0.35", linewidths=0.8)
