"""Figures of receptive fields: theoretical boxes on the image, and the gradient of the effective field."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from jaxseg.files import atomic_path
from jaxseg.ops.normalize import REC601

if TYPE_CHECKING:
    import matplotlib.axes

    import jaxseg.analysis.receptive_field

_BOXES = "#e8b34b"  # theoretical
_SQUARES = "#35c6f4"  # effective


def fields_figure(
    fields: Sequence["jaxseg.analysis.receptive_field.Field"],
    size: tuple[int, int],
    path: str | Path,
    *,
    title: str = "",
    image: UInt8[np.ndarray, "h w 3"] | None = None,
) -> None:
    """Writes a PNG of receptive fields: all theoretical boxes on the image, then the gradient of each feature map.

    Args:
      fields: of `jaxseg.analysis.receptive_field`; those without `heat` are left out, unless none has it.
      size: (height, width) of the image, in pixels.
      path: the file to write.
      title: of the figure.
      image: uint8[h, w, 3] to draw on; None is gray.
    """
    from matplotlib.figure import Figure

    heated = [field for field in fields if field.heat is not None]
    shown = heated or list(fields)
    count = 1 + len(heated)
    columns = min(count, 4)
    rows = -(-count // columns)
    panel_width = 3.1
    panel_height = panel_width * size[0] / size[1]
    figure = Figure(figsize=(panel_width * columns, (panel_height + 0.5) * rows + 0.4), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    _nested(panels[0], shown, size, image)
    for axes, field in zip(panels[1:], heated, strict=False):
        _heat(axes, field, size, image)
    with atomic_path(path) as part:
        figure.savefig(part)


def _nested(
    axes: "matplotlib.axes.Axes",
    fields: Sequence["jaxseg.analysis.receptive_field.Field"],
    size: tuple[int, int],
    image: UInt8[np.ndarray, "h w 3"] | None,
) -> None:
    """All boxes on the whole image, the names at their upper left corners."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    axes.imshow(np.full((*size, 3), 225, np.uint8) if image is None else image, extent=(0, size[1], size[0], 0))
    axes.set_title("theoretical fields of the middle", fontsize=9)
    colors = colormaps["plasma"](np.linspace(0, 0.9, len(fields)))
    drawn = {}
    for field, color in zip(fields, colors, strict=True):
        drawn.setdefault(field.box, [color]).append(field.name)
    for n, ((top, left, bottom, right), (color, *names)) in enumerate(drawn.items()):
        axes.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=2, edgecolor=color, clip_on=False)
        )
        label = {"fontsize": 7, "color": "white", "bbox": {"facecolor": color, "edgecolor": "none", "pad": 1}}
        axes.text(1.03 * size[1], size[0] * (0.04 + n / (len(drawn) + 1)), "\n".join(names), va="top", **label)


def _heat(
    axes: "matplotlib.axes.Axes",
    field: "jaxseg.analysis.receptive_field.Field",
    size: tuple[int, int],
    image: UInt8[np.ndarray, "h w 3"] | None,
) -> None:
    """The gradient, brighter where it is larger, on the part of the image around the theoretical field."""
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    top, left, bottom, right = field.box
    margin = 0.08 * max(bottom - top, right - left) + 4
    some = field.heat[field.heat > 0]
    strength = np.sqrt(np.minimum(field.heat / (np.percentile(some, 99.5) if some.size else 1), 1))  # not by outliers
    axes.imshow(strength, cmap="magma", vmin=0, vmax=1, extent=(0, size[1], size[0], 0), interpolation="nearest")
    if image is not None:
        gray = image @ np.array(REC601)
        axes.imshow(gray, cmap="gray", vmin=0, vmax=255, alpha=0.75 * (1 - strength), extent=(0, size[1], size[0], 0))
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=_BOXES, linewidth=1.5))
    y, x, side = (top + bottom) / 2, (left + right) / 2, field.side
    axes.add_patch(
        Rectangle(
            (x - side / 2, y - side / 2), side, side, fill=False, edgecolor=_SQUARES, linewidth=1.2, linestyle="--"
        )
    )
    axes.set_xlim(max(left - margin, 0), min(right + margin, size[1]))
    axes.set_ylim(min(bottom + margin, size[0]), max(top - margin, 0))
    theory = "whole image" if field.size is None else f"{field.size[0]} x {field.size[1]}"
    axes.set_title(f"{field.name}: {theory}, effective {side:.0f} x {side:.0f}", fontsize=9)
    axes.set_axis_on()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(labelsize=6, length=2, color="0.6", labelcolor="0.4")
    axes.spines[:].set_visible(False)
