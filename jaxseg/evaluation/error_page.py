"""One HTML page of a model's errors: no other file, no script; light or dark as the reader's system is."""

import base64
import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxseg.data.dataset import Dataset, Source
from jaxseg.evaluation.objects import components
from jaxseg.evaluation.survey import DISTANCES, SIZES, Survey, pairs
from jaxseg.metrics import scores
from jaxseg.metrics.arrays import count_pairs
from jaxseg.visualize import colorize, error_map

WIDTH = 480  # largest width of an image on the page, pixels
CROP = 160  # smallest side of an example of a pair, pixels of the image

STYLE = """
:root { color-scheme: light dark; --line: rgba(128, 128, 128, .35); --bar: #4f8fd0; --bad: #de4b40; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
p, .note { max-width: 60rem; opacity: .8 }
table { border-collapse: collapse } td, th { padding: .2rem .7rem .2rem 0; text-align: right; font-weight: 400 }
th { opacity: .7; border-bottom: 1px solid var(--line); vertical-align: bottom }
td:first-child, th:first-child, .left { text-align: left }
.bar { width: 16rem; min-width: 6rem; padding-right: 1rem }
.bar div { height: .8rem; border-radius: 2px; background: var(--bar) }
.bar.bad div { background: var(--bad) }
.swatch { display: inline-block; width: .8em; height: .8em; border: 1px solid var(--line); margin-right: .4em }
.legend span { white-space: nowrap; margin-right: 1rem; display: inline-block }
.row { display: grid; grid-template-columns: repeat(4, 1fr); gap: .5rem; margin: .3rem 0 1.4rem }
.row.two { grid-template-columns: repeat(2, 1fr); max-width: 30rem; margin: .3rem 0 }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap: 1rem }
figure { margin: 0 } img { width: 100%; display: block } figcaption { font-size: .8rem; opacity: .7 }
"""


def page(
    found: Survey,
    dataset: Dataset,
    source: Source,
    predict: Callable[[np.ndarray], np.ndarray],
    *,
    title: str,
    worst: int = 12,
    pairs_shown: int = 10,
) -> str:
    """Returns the page.

    Args:
      found: of `jaxseg.evaluation.survey.survey`.
      dataset: its classes, palette and ignore label.
      source: the records that were surveyed.
      predict: an image uint8[h, w, 3] -> its label map.
      title: of the figure.
      worst: how many images to show.
      pairs_shown: how many confused pairs to show.
    """
    result = scores(found.matrix)
    order = sorted((i for i, e in enumerate(found.errors) if e > 0), key=lambda i: -found.errors[i])[:worst]
    confused = pairs(found.matrix, pairs_shown)
    swatches = [_swatch(color) for color in dataset.palette]
    names = [s + html.escape(n) for s, n in zip(swatches, dataset.classes, strict=True)]
    examples = [_example(found, pair, dataset, source, predict, names) for pair in confused]
    summary = (
        f"{len(found.errors)} images, {found.matrix.sum():,} pixels with a label. mIoU {_percent(result['miou'])},"
        f" {_percent(1 - result['pixel_accuracy'])} of the pixels wrong."
    )
    parts = [
        f"<h1>Errors of {html.escape(title)}</h1><p>{summary}</p>",
        f'<p class="legend">{"".join(f"<span>{name}</span>" for name in names)}</p>',
        "<h2>Classes, the worst first</h2>",
        _classes(result, names),
        "<h2>Confused pairs</h2>",
        _pairs(found.matrix, confused, names),
        '<p class="note">Where each pair is confused most: the image, and in the color of the prediction what was'
        " taken for it.</p>",
        f'<div class="examples">{"".join(examples)}</div>',
        "<h2>Size of the object</h2>",
        _sizes(found),
        '<p class="note">An object is a connected region of one class in the label. IoU: with the predicted region of'
        " that class that fits best, mean over objects. Missed: less than half of its pixels are right.</p>",
        "<h2>Distance to a border</h2>",
        _distances(found),
        '<p class="note">Distance of a pixel to the nearest one that touches another class (0: it does so itself).</p>',
        f"<h2>The {len(order)} worst images</h2>",
        *(_image(rank, source[i], found.errors[i], dataset, predict) for rank, i in enumerate(order, start=1)),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Errors of {html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        + "\n".join(parts)
        + "</body></html>\n"
    )


def _classes(result: Mapping[str, Any], names: Sequence[str]) -> str:
    order = np.argsort(np.nan_to_num(result["iou"], nan=2.0), kind="stable")
    rows = []
    for i in order:
        numbers = [_percent(result[key][i]) for key in ("iou", "accuracy", "precision", "frequency")]
        rows.append([names[i], _bar(result["iou"][i]), *numbers])
    return _table(["class", "", "IoU", "found", "precision", "of the pixels"], rows)


def _pairs(matrix: Int[np.ndarray, "c c"], confused: Sequence[tuple[int, int]], names: Sequence[str]) -> str:
    wrong = matrix.sum() - np.trace(matrix)
    rows = []
    for label, prediction in confused:
        count = matrix[label, prediction]
        rows.append(
            [
                f"{names[label]} taken for {names[prediction]}",
                _bar(count / matrix[confused[0]], bad=True),
                _percent(count / wrong),
                _percent(count / matrix[label].sum()),
                f"{count:,}",
            ]
        )
    return _table(["", "", "of all errors", "of the class", "pixels"], rows)


def _sizes(found: Survey) -> str:
    rows = []
    for name, (count, pixels, wrong, iou), missed in zip(_ranges(SIZES, 1), found.objects, found.missed, strict=True):
        if count:
            cells = [_percent(wrong / pixels), _percent(iou / count), _percent(missed / count), f"{count:,.0f}"]
            rows.append([f"{name} pixels", _bar(wrong / pixels, bad=True), *cells])
    return _table(["object", "", "pixels wrong", "IoU", "missed", "objects"], rows)


def _distances(found: Survey) -> str:
    total = found.distances.sum(0)
    rows = []
    for name, (pixels, wrong) in zip(_ranges(DISTANCES, 0), found.distances, strict=True):
        if pixels:
            cells = [_percent(wrong / pixels), _percent(wrong / max(total[1], 1)), _percent(pixels / total[0])]
            rows.append([f"{name} px", _bar(wrong / pixels, bad=True), *cells])
    return _table(["distance", "", "pixels wrong", "of all errors", "of the pixels"], rows)


def _ranges(bounds: Sequence[int], first: int) -> list[str]:
    """Names of bins.

    >>> _ranges((1, 3), 0)
    ['0', '1–2', 'from 3']
    """
    starts = [first, *bounds]
    inner = [f"{a:,}" if b - a == 1 else f"{a:,}–{b - 1:,}" for a, b in zip(starts, bounds, strict=False)]
    return [*inner, f"from {bounds[-1]:,}"]


def _image(
    rank: int, record: Mapping[str, Any], error: float, dataset: Dataset, predict: Callable[[np.ndarray], np.ndarray]
) -> str:
    """A row: image, label, prediction, errors; and what is most often taken for what."""
    label, prediction = np.asarray(record["label"]), np.asarray(predict(record["image"]))
    image = dataset.bands.to_show(record["image"])
    matrix = count_pairs(label, prediction, len(dataset.classes), ignore=dataset.ignore)
    most = [
        f"{html.escape(dataset.classes[i])} taken for {html.escape(dataset.classes[j])}"
        f" {_percent(matrix[i, j] / matrix.sum())}"
        for i, j in pairs(matrix, 3)
    ]
    maps = [colorize(x, dataset.palette, ignore=dataset.ignore) for x in (label, prediction)]
    wrong = error_map(image, label, prediction, ignore=dataset.ignore)
    cells = [
        _figure(_data(image, photo=True), "image"),
        _figure(_data(maps[0]), "label"),
        _figure(_data(maps[1]), "prediction"),
        _figure(_data(wrong, photo=True), "errors"),
    ]
    heading = f"<b>{rank}. {html.escape(record['name'])}</b>: {_percent(error)} wrong; {', '.join(most)}"
    return f'<div>{heading}</div><div class="row">{"".join(cells)}</div>'


def _example(
    found: Survey,
    pair: tuple[int, int],
    dataset: Dataset,
    source: Source,
    predict: Callable[[np.ndarray], np.ndarray],
    names: Sequence[str],
) -> str:
    """The largest region of a pair, in the image that has most of it."""
    label_id, prediction_id = pair
    record = source[int(found.example[pair])]
    image, label = record["image"], np.asarray(record["label"])
    mistaken = (label == label_id) & (np.asarray(predict(image)) == prediction_id)
    image = dataset.bands.to_show(image)
    region = components(mistaken.astype(int))
    sizes = np.bincount(region[mistaken], minlength=region.max() + 1)
    where = np.argwhere(region == sizes.argmax())
    ends = np.stack([where.min(0), where.max(0)], 1)
    side, window = min(max(int(1.3 * np.ptp(ends, 1).max()), CROP), *label.shape), []
    for (low, high), length in zip(ends, label.shape, strict=True):
        start = min(max((low + high - side) // 2, 0), length - side)
        window.append(slice(start, start + side))
    cut, mask = image[tuple(window)], mistaken[tuple(window)][..., None]
    tinted = np.where(mask, 0.25 * cut + 0.75 * np.array(dataset.palette[prediction_id]), 0.4 * cut + 110)
    cells = [_figure(_data(x, photo=True), "") for x in (cut, tinted.astype(np.uint8))]
    caption = f"{names[label_id]} taken for {names[prediction_id]}, in {html.escape(record['name'])}"
    return f'<div>{caption}<div class="row two">{"".join(cells)}</div></div>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f"<th>{title}</th>" for title in head)
    lines = []
    for row in rows:
        lines.append("<tr>" + "".join(c if c.startswith("<td") else f"<td>{c}</td>" for c in row) + "</tr>")
    return f"<table><tr>{cells}</tr>{''.join(lines)}</table>"


def _bar(share: float, *, bad: bool = False) -> str:
    width = 0 if np.isnan(share) else 100 * share
    return f'<td class="bar{" bad" if bad else ""}"><div style="width:{width:.1f}%"></div></td>'


def _swatch(color: tuple[int, int, int]) -> str:
    return f'<i class="swatch" style="background:rgb{tuple(map(int, color))}"></i>'


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.1f}&nbsp;%"


def _figure(data: str, caption: str) -> str:
    return f'<figure><img src="{data}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def _data(sample: np.ndarray, *, photo: bool = False) -> str:
    """An image as the text of a URL: PNG, or JPEG for photographs; made smaller if it is wider than the page shows."""
    from PIL import Image

    image, how = Image.fromarray(sample), Image.Resampling.LANCZOS if photo else Image.Resampling.NEAREST
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), how)
    kind, buffer = ("jpeg", io.BytesIO()) if photo else ("png", io.BytesIO())
    image.save(buffer, kind, **({"quality": 85} if photo else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
