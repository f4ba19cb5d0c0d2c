"""One HTML page of a model's errors: no other file, no script; light or dark as the reader's system is."""

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxseg.checks import printable
from jaxseg.data.dataset import Dataset, Source
from jaxseg.evaluation.objects import components
from jaxseg.evaluation.survey import DISTANCES, SIZES, Survey, pairs
from jaxseg.metrics import scores
from jaxseg.metrics.arrays import count_pairs
from jaxseg.visualize import colorize, error_map
from jaxseg.visualize.hypertext import bar, document, figure, image_url, percent, swatch, table

CROP = 160  # smallest side of an example of a pair, pixels of the image


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
    swatches = [swatch(color) for color in dataset.palette]
    names = [s + html.escape(n) for s, n in zip(swatches, dataset.classes, strict=True)]
    examples = [_example(found, pair, dataset, source, predict, names) for pair in confused]
    count = len(found.errors) - len(found.unreadable)
    summary = (
        f"{count} images, {found.matrix.sum():,} pixels with a label. mIoU {percent(result['miou'])},"
        f" {percent(1 - result['pixel_accuracy'])} of the pixels wrong."
    )
    lost = ""
    if found.unreadable:
        reasons = "".join(f"<li>{html.escape(printable(reason))}</li>" for reason in found.unreadable)
        lost = f"<p><b>{len(found.unreadable)} of {len(found.errors)} images do not read and are left out:</b></p>"
        lost += f"<ul>{reasons}</ul>"
    parts = [
        f"<h1>Errors of {html.escape(title)}</h1><p>{summary}</p>{lost}",
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
    return document(f"Errors of {title}", parts)


def _classes(result: Mapping[str, Any], names: Sequence[str]) -> str:
    order = np.argsort(np.nan_to_num(result["iou"], nan=2.0), kind="stable")
    rows = []
    for i in order:
        numbers = [percent(result[key][i]) for key in ("iou", "accuracy", "precision", "frequency")]
        rows.append([names[i], bar(result["iou"][i]), *numbers])
    return table(["class", "", "IoU", "found", "precision", "of the pixels"], rows)


def _pairs(matrix: Int[np.ndarray, "c c"], confused: Sequence[tuple[int, int]], names: Sequence[str]) -> str:
    wrong = matrix.sum() - np.trace(matrix)
    rows = []
    for label, prediction in confused:
        count = matrix[label, prediction]
        rows.append(
            [
                f"{names[label]} taken for {names[prediction]}",
                bar(count / matrix[confused[0]], bad=True),
                percent(count / wrong),
                percent(count / matrix[label].sum()),
                f"{count:,}",
            ]
        )
    return table(["", "", "of all errors", "of the class", "pixels"], rows)


def _sizes(found: Survey) -> str:
    rows = []
    for name, (count, pixels, wrong, iou), missed in zip(_ranges(SIZES, 1), found.objects, found.missed, strict=True):
        if count:
            cells = [percent(wrong / pixels), percent(iou / count), percent(missed / count), f"{count:,.0f}"]
            rows.append([f"{name} pixels", bar(wrong / pixels, bad=True), *cells])
    return table(["object", "", "pixels wrong", "IoU", "missed", "objects"], rows)


def _distances(found: Survey) -> str:
    total = found.distances.sum(0)
    rows = []
    for name, (pixels, wrong) in zip(_ranges(DISTANCES, 0), found.distances, strict=True):
        if pixels:
            cells = [percent(wrong / pixels), percent(wrong / max(total[1], 1)), percent(pixels / total[0])]
            rows.append([f"{name} px", bar(wrong / pixels, bad=True), *cells])
    return table(["distance", "", "pixels wrong", "of all errors", "of the pixels"], rows)


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
        f" {percent(matrix[i, j] / matrix.sum())}"
        for i, j in pairs(matrix, 3)
    ]
    maps = [colorize(x, dataset.palette, ignore=dataset.ignore) for x in (label, prediction)]
    wrong = error_map(image, label, prediction, ignore=dataset.ignore)
    cells = [
        figure(image_url(image, photo=True), "image"),
        figure(image_url(maps[0]), "label"),
        figure(image_url(maps[1]), "prediction"),
        figure(image_url(wrong, photo=True), "errors"),
    ]
    heading = f"<b>{rank}. {html.escape(record['name'])}</b>: {percent(error)} wrong; {', '.join(most)}"
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
    cells = [figure(image_url(x, photo=True), "") for x in (cut, tinted.astype(np.uint8))]
    caption = f"{names[label_id]} taken for {names[prediction_id]}, in {html.escape(record['name'])}"
    return f'<div>{caption}<div class="row two">{"".join(cells)}</div></div>'
