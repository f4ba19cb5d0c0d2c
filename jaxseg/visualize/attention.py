"""Figures of attention: maps over an image, and channel weights."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxseg.files import atomic_path
from jaxseg.ops.normalize import REC601


def attention_figure(image: np.ndarray, maps: Mapping[str, np.ndarray], path: str | Path, *, title: str = "") -> None:
    """Writes a PNG: the image, and each map over it with a color bar.

    Args:
      image: uint8[h, w, 3].
      maps: title -> weights, float[h2, w2] of any size; each covers the whole image.
      path: the file to write.
      title: of the figure.
    """
    from matplotlib.figure import Figure

    h, w = image.shape[:2]
    panel_width, count = 4.4, 1 + len(maps)
    figure = Figure(figsize=(panel_width * count, panel_width * h / w + 0.6), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(1, count, squeeze=False)[0]
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(image)
    panels[0].set_title("image", fontsize=9)
    gray = image @ np.array(REC601)
    for axes, (name, weights) in zip(panels[1:], maps.items(), strict=True):
        axes.imshow(gray, cmap="gray", vmin=0, vmax=255, extent=(0, w, h, 0))
        drawn = axes.imshow(weights, cmap="inferno", alpha=0.65, extent=(0, w, h, 0), interpolation="bilinear")
        axes.set_title(f"{name}, {weights.shape[0]} x {weights.shape[1]}", fontsize=9)
        bar = figure.colorbar(drawn, ax=axes, shrink=0.85, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7)
        if "middle" in name:
            axes.plot(w / 2, h / 2, marker="+", markersize=12, markeredgewidth=2, color="#35c6f4")
    with atomic_path(path) as part:
        figure.savefig(part)


def channels_figure(image: np.ndarray, channels: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Writes a PNG: the image, and the weights of every block's channels from the largest to the smallest.

    Args:
      image: uint8[h, w, 3].
      channels: block -> weight of every channel, float[c].
      path: the file to write.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, max(3.6, 0.28 * len(channels) + 1.2)), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    left.imshow(image)
    left.set_axis_off()
    left.set_title("image", fontsize=9)
    colors = colormaps["viridis"](np.linspace(0, 0.9, len(channels)))
    for (name, weights), color in zip(channels.items(), colors, strict=True):
        place = 100 * np.arange(1, len(weights) + 1) / len(weights)
        label = f"{name}: {len(weights)}, mean {weights.mean():.2f}"
        right.plot(place, np.sort(weights)[::-1], color=color, linewidth=1.6, label=label)
    right.set_xlabel("channels, from the largest weight to the smallest, %", fontsize=9)
    right.set_ylabel("weight", fontsize=9)
    right.set_ylim(bottom=0)
    right.grid(color="0.92")
    right.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    with atomic_path(path) as part:
        figure.savefig(part)
