"""Images of label maps: colored, as overlays, in grids with labels and errors, and as palette files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, UInt8

from jaxseg.checks import UserError
from jaxseg.files import atomic_path
from jaxseg.ops.normalize import REC601

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageFont

Palette = Sequence[tuple[int, int, int]]

WRONG = (222, 45, 38)
_INK = (40, 40, 46)
_CELL = 300  # largest width of an image in a grid, pixels


def colorize(label: np.ndarray, palette: Palette, *, ignore: int = 255) -> np.ndarray:
    """Returns uint8[h, w, 3]: every class in its color, ignored pixels hatched.

    >>> colorize(np.array([[1, 0]]), [(0, 0, 0), (255, 128, 0)]).tolist()
    [[[255, 128, 0], [0, 0, 0]]]
    """
    label = np.asarray(label)
    ignored = _ignored(label, palette, ignore)
    colors = np.asarray(palette, np.uint8)[np.where(ignored, 0, label)]
    row, column = np.indices(label.shape)
    hatch = np.where((row + column) // 4 % 2, 150, 225).astype(np.uint8)
    return np.where(ignored[..., None], hatch[..., None], colors)


def overlay(
    image: np.ndarray,
    label: np.ndarray,
    palette: Palette,
    classes: Sequence[str],
    *,
    alpha: float = 0.5,
    legend: bool = True,
    ignore: int = 255,
) -> np.ndarray:
    """Returns uint8[h2, w2, 3]: the image tinted by class and, beneath it, the classes that occur and their shares.

    Args:
      image: uint8[h, w, 3].
      label: class ids, integer[h, w]; ignored pixels are not tinted.
      palette: a color per class.
      classes: a name per class.
      alpha: weight of the tint, 0 to 1.
      legend: whether to write it; it makes the image higher, and a narrow one wider.
      ignore: the label of pixels that are no class.
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"`alpha` must be in [0, 1], got {alpha}.")
    ignored = _ignored(label, palette, ignore)[..., None]
    mixed = (1 - alpha) * image + alpha * colorize(label, palette, ignore=ignore)
    tinted = np.where(ignored, image, np.round(mixed)).astype(np.uint8)
    if not legend:
        return tinted
    shares = np.bincount(label[~ignored[..., 0]], minlength=len(palette)) / label.size
    order = [i for i in np.argsort(-shares, kind="stable") if shares[i] > 0]
    entries = [(_swatch(palette[i]), f"{classes[i]} {as_percent(shares[i])}") for i in order]
    height, width = label.shape
    size = min(max(width // 40, 11), 26)
    strip = np.asarray(_legend(entries, width - size, size=size))
    whole = np.full((height + strip.shape[0], max(width, strip.shape[1] + size), 3), 255, np.uint8)
    whole[:height, :width] = tinted
    whole[height:, size // 2 : size // 2 + strip.shape[1]] = strip
    return whole


def error_map(image: np.ndarray, label: np.ndarray, prediction: np.ndarray, *, ignore: int = 255) -> np.ndarray:
    """Returns uint8[h, w, 3]: correct pixels show the image in pale gray, wrong ones are red, ignored ones hatched."""
    gray = 110 + 0.55 * (image @ np.array(REC601))
    result = np.repeat(gray[..., None], 3, axis=2).astype(np.uint8)
    result[prediction != label] = WRONG
    hatched = colorize(np.where(label == ignore, 1, 0), [(0, 0, 0)], ignore=1)
    return np.where((label == ignore)[..., None], hatched, result)


def prediction_grid(
    rows: Sequence[Mapping[str, Any]],
    *,
    palette: Palette,
    classes: Sequence[str],
    path: str | Path,
    ignore: int = 255,
) -> None:
    """Writes a PNG with a row per image: image | label | prediction | errors, and the legend beneath.

    Args:
      rows: {"image": uint8[h, w, 3], "label": int[h, w], "prediction": int[h, w], "name": str} of any sizes; with
        none, no file is written.
      palette: a color per class.
      classes: a name per class.
      path: the file to write.
      ignore: the ignore label.
    """
    from PIL import Image, ImageDraw

    if not rows:
        return
    images = [_row(row, palette, ignore) for row in rows]
    width = max(row[0].shape[1] for row in images)
    gap, margin, size = 8, 16, 15
    full = 2 * margin + 4 * width + 3 * gap
    entries = [(_swatch(color), name) for color, name in zip(palette, classes, strict=True)]
    ids = np.full((64, 64), ignore)
    entries += [(colorize(ids, palette, ignore=ignore), "ignored"), (_swatch(WRONG), "wrong")]
    legend = _legend(entries, full - 2 * margin, size=size)
    caption = size + 9
    full = max(full, legend.width + 2 * margin)
    height = 2 * margin + caption + sum(row[0].shape[0] + caption for row in images) + legend.height
    sheet = Image.new("RGB", (full, height), "white")
    draw, font, small = ImageDraw.Draw(sheet), _font(size), _font(size - 3)
    lefts = [margin + i * (width + gap) for i in range(4)]
    for left, title in zip(lefts, ("image", "label", "prediction", "errors"), strict=True):
        draw.text((left, margin - 4), title, _INK, font)
    top = margin + caption
    for row, cells in zip(rows, images, strict=True):
        for left, cell in zip(lefts, cells, strict=True):
            sheet.paste(Image.fromarray(cell), (left, top))
        top += cells[0].shape[0]
        draw.text((margin, top + 2), _caption(row, ignore), (110, 110, 118), small)
        top += caption
    sheet.paste(legend, (margin, top))
    with atomic_path(path) as part:
        sheet.save(part)


def _row(row: Mapping[str, Any], palette: Palette, ignore: int) -> tuple[UInt8[np.ndarray, "h w 3"], ...]:
    """The four images of a row at their size in the grid: enlarged by whole factors only, or made smaller."""
    from PIL import Image

    h, w = row["label"].shape
    factor = min(_CELL / w, 1.5 * _CELL / h)
    factor = int(factor) if factor >= 1 else factor
    size = max(round(w * factor), 1), max(round(h * factor), 1)
    how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    image = np.asarray(Image.fromarray(row["image"]).resize(size, how))
    label, prediction = (
        np.asarray(Image.fromarray(np.asarray(row[key], np.uint8)).resize(size, Image.Resampling.NEAREST))
        for key in ("label", "prediction")
    )
    maps = colorize(label, palette, ignore=ignore), colorize(prediction, palette, ignore=ignore)
    return image, *maps, error_map(image, label, prediction, ignore=ignore)


def _caption(row: Mapping[str, Any], ignore: int) -> str:
    counted = row["label"] != ignore
    if not counted.any():
        return f"{row['name']}: all ignored"
    return f"{row['name']}: {as_percent((row['prediction'] == row['label'])[counted].mean())} of the pixels right"


def save_label_png(path: str | Path, label: np.ndarray, palette: Palette, *, ignore: int = 255) -> None:
    """Writes class ids as a palette PNG: its values are the ids themselves, its colors are for the eye.

    Args:
      path: the file to write.
      label: class ids, integer[h, w]; `ignore` may occur.
      palette: a color per class, at most 256.
      ignore: drawn white.
    """
    if len(palette) > 256:
        raise UserError(f"{path}: a palette PNG holds at most 256 classes, got {len(palette)}. Save the array instead.")
    image = palette_image(label, palette, ignore=ignore)
    with atomic_path(path) as part:
        image.save(part, optimize=False)


def palette_image(label: np.ndarray, palette: Palette, *, ignore: int = 255) -> "PIL.Image.Image":
    """Returns the image that `save_label_png` writes; the arguments are its."""
    from PIL import Image

    _ignored(label, palette, ignore)
    colors = np.full((256, 3), 255, np.uint8)
    colors[: len(palette)] = palette
    image = Image.fromarray(np.asarray(label).astype(np.uint8))
    image.putpalette(colors.tobytes())
    return image


def _ignored(label: np.ndarray, palette: Palette, ignore: int) -> Bool[np.ndarray, "h w"]:
    """Where label is `ignore`; raises if anything else is no class."""
    if not np.issubdtype(label.dtype, np.integer) or label.ndim != 2:
        raise UserError(f"A label map must be integers[h, w], got {label.dtype} of shape {label.shape}.")
    ignored = label == ignore
    wrong = label[~ignored & ((label < 0) | (label >= len(palette)))]
    if wrong.size:
        raise UserError(
            f"The label map holds {wrong[0]}, but there are {len(palette)} classes and {ignore} is ignored."
        )
    return ignored


def as_percent(share: float) -> str:
    """Returns a share as people read it.

    >>> as_percent(0.123), as_percent(0.0004)
    ('12.3%', '<0.1%')
    """
    return "<0.1%" if 0 < share < 0.001 else f"{100 * share:.1f}%"


def _swatch(color: tuple[int, int, int]) -> UInt8[np.ndarray, "64 64 3"]:
    return np.full((64, 64, 3), color, np.uint8)


def _font(size: int) -> "PIL.ImageFont.FreeTypeFont":
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _legend(entries: Sequence[tuple[UInt8[np.ndarray, "_h _w 3"], str]], width: int, *, size: int) -> "PIL.Image.Image":
    """Draws (texture, text) pairs in lines that fill `width`, or the widest entry if that is more."""
    from PIL import Image, ImageDraw

    font, pad, line = _font(size), size // 2, round(size * 1.7)
    widths = [size + pad + round(font.getlength(text)) + 2 * pad for _, text in entries]
    width = max([width, *widths])
    places, x, y = [], 0, pad
    for entry_width in widths:
        if x and x + entry_width > width:
            x, y = 0, y + line
        places.append((x, y))
        x += entry_width
    sheet = Image.new("RGB", (width, y + line), "white")
    draw = ImageDraw.Draw(sheet)
    for (texture, text), (x, y) in zip(entries, places, strict=True):
        sheet.paste(Image.fromarray(texture[:size, :size]), (x, y))
        draw.rectangle((x, y, x + size - 1, y + size - 1), outline=(120, 120, 126))
        draw.text((x + size + pad, y + size / 2), text, _INK, font, anchor="lm")
    return sheet
