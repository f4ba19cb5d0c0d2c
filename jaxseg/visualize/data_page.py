"""One HTML page of what a data set holds: the numbers of its splits, and images with their labels over them."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxseg.checks import UserError, listing
from jaxseg.data import report as words
from jaxseg.data.check import Look
from jaxseg.data.dataset import Dataset
from jaxseg.data.verdict import Report, as_settings, grouped
from jaxseg.visualize.hypertext import WIDTH, bar, document, figure, image_url, percent, swatch, table
from jaxseg.visualize.images import colorize, overlay

SHEET = 24  # images shown of a split


def page(report: Report, *, title: str, images: int = SHEET) -> str:
    """Returns the page.

    Args:
      report: of `jaxseg.data.verdict.judge`.
      title: of the data set.
      images: shown of each split: evenly spread, and for each class one that has it.
    """
    dataset = report.dataset
    names = [swatch(c) + html.escape(n) for c, n in zip(dataset.palette, dataset.classes, strict=True)]
    parts = [
        f"<h1>{html.escape(title)}</h1><p>{_count(dataset.num_classes, 'class', 'es')}, ignore label {dataset.ignore}, "
        f"{html.escape(words.bands_text(dataset.bands))}</p>",
        f'<p class="legend">{"".join(f"<span>{name}</span>" for name in names)}</p>',
    ]
    for name, sentences in (("error", _sentences(report)), ("warning", report.warnings)):
        if sentences:
            parts.append(f"<h2>{_count(len(getattr(report, f'{name}s')), name)}</h2><ul>")
            parts += [f"<li>{html.escape(sentence)}</li>" for sentence in sentences]
            parts.append("</ul>")
    for i, seen in enumerate(report.looks):
        parts += [f"<h2>{html.escape(seen.split)}: {words.images_text(seen)}</h2>"]
        told = words.split_rows(report, seen, first=not i)
        parts.append(table(["", ""], [[name, f'<td class="left">{html.escape(text)}</td>'] for name, text in told]))
        if seen.facts:
            parts += [_classes(dataset, seen, names), *_sheet(dataset, seen, images)]
    if report.suggestions:
        parts += ["<h2>To begin with</h2>", f"<pre>{html.escape(chr(10).join(as_settings(report.suggestions)))}</pre>"]
    return document(f"Data: {title}", parts)


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural * (number != 1)}"


def _sentences(report: Report) -> list[str]:
    """The errors, those that are alike once, and of many kinds the first."""
    told = grouped(report.errors)
    said = [sentence + (f" (and {count - 1} more like it)" if count > 1 else "") for sentence, count in told]
    more = len(said) - words.SHOWN
    return said[: words.SHOWN] + [f"… and errors of {_count(more, 'further kind')}"] * (more > 0)


def _classes(dataset: Dataset, seen: Look, names: Sequence[str]) -> str:
    names = ["not of the class", *names] if dataset.num_classes == 1 else names
    rows = words.class_rows(dataset, seen)
    return table(
        ["class", "", "of the pixels", "images"],
        [[names[i], bar(share), percent(share), f"{count:,}"] for i, (_, share, count) in enumerate(rows)],
    )


def _sheet(dataset: Dataset, seen: Look, images: int) -> list[str]:
    """Rows of image, overlay and label: spread over the split, and of each class the image that has most of it."""
    spread = np.unique(np.linspace(0, len(seen.facts) - 1, min(images, len(seen.facts))).round().astype(int)).tolist()
    shares = np.stack([fact.counts[:-1] / max(fact.counts.sum(), 1) for fact in seen.facts])
    most = [int(i) for i, there in zip(shares.argmax(0), shares.any(0), strict=True) if there][:images]
    parts = ["<p>Images spread over the split, and of each class the one that has most of it.</p>"]
    for place in dict.fromkeys([*spread, *most]):
        fact = seen.facts[place]
        try:
            record = seen.source[fact.index]
        except UserError:  # it was there a moment ago
            continue
        there = [name for i, name in enumerate(dataset.classes) if _has(dataset, fact.counts, i)]
        heading = f"<b>{html.escape(fact.name)}</b> {fact.size[0]}x{fact.size[1]}: {html.escape(listing(there, 12))}"
        kind = "row three small" if fact.size[1] < WIDTH / 2 else "row three"  # enlarged by the browser, to squares
        parts.append(f'<div>{heading}</div><div class="{kind}">{"".join(_cells(dataset, record))}</div>')
    return parts


def _has(dataset: Dataset, counts: np.ndarray, class_id: int) -> bool:
    return bool(counts[class_id + (dataset.num_classes == 1)])


def _cells(dataset: Dataset, record: dict[str, Any]) -> list[str]:
    """An image, the label over it, and the label; every n-th pixel of those that are larger than the page shows."""
    step = max(1, record["label"].shape[1] // WIDTH)
    label = np.ascontiguousarray(record["label"][::step, ::step])
    image = dataset.bands.to_show(np.ascontiguousarray(record["image"][::step, ::step]))
    palette, classes = list(dataset.palette), list(dataset.classes)
    if dataset.num_classes == 1:  # whose labels are 0 and 1
        palette, classes = [(0, 0, 0), palette[0]], ["not of the class", *classes]
    tinted = overlay(image, label, palette, classes, legend=False, ignore=dataset.ignore)
    return [
        figure(image_url(image, photo=True), "image"),
        figure(image_url(tinted, photo=True), "label over it"),
        figure(image_url(colorize(label, palette, ignore=dataset.ignore)), "label; ignored pixels are hatched"),
    ]
