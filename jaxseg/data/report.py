"""The words for what was seen of a data set: a report, and the lines that a run begins with."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxseg.checks import listing, percent
from jaxseg.data.bands import Bands
from jaxseg.data.check import Look, Size
from jaxseg.data.dataset import Dataset
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.verdict import (
    Report,
    Setting,
    absent_classes,
    as_settings,
    canvas_warnings,
    fitted,
    grouped,
    image_warnings,
    judge_labels,
    type_range,
    window_share,
)
from jaxseg.data.volumes import volumes_text

SHOWN = 40  # classes and errors of the report


def text(report: Report) -> str:
    """Returns the report as text."""
    dataset = report.dataset
    lines = [
        f"{dataset.name}: {dataset.num_classes} class{'es' * (dataset.num_classes > 1)}, ignore label {dataset.ignore},"
        f" {bands_text(dataset.bands)}"
    ]
    for i, seen in enumerate(report.looks):
        lines += ["", f"{seen.split}: {images_text(seen)}"]
        lines += [f"  {name:8}{told}" for name, told in split_rows(report, seen, first=not i)]
        lines += _class_table(dataset, seen) if seen.facts else []
    if report.suggestions:
        lines += ["", "to begin with:", *(f"  {line}" for line in as_settings(report.suggestions))]
    lines += [""] * bool(report.warnings) + [f"warning: {sentence}" for sentence in report.warnings]
    told = grouped(report.errors)
    for sentence, count in told[:SHOWN]:
        lines += ["", f"error: {sentence}" + (f" (and {count - 1} more like it)" if count > 1 else "")]
    if len(told) > SHOWN:
        lines.append(f"... and errors of {len(told) - SHOWN} further kinds")
    many = [f"{len(report.errors)} error{'s' * (len(report.errors) != 1)}"]
    many.append(f"{len(report.warnings)} warning{'s' * (len(report.warnings) != 1)}")
    return "\n".join([*lines, "", ", ".join(many)])


def split_rows(report: Report, seen: Look, *, first: bool) -> list[tuple[str, str]]:
    """Returns (what, text) of what a split's images and labels are.

    Args:
      report: the whole.
      seen: the split.
      first: whether it is the one to train on, whose statistics are fitted.
    """
    other = [
        f"{count} of {_times(size)}, {dtype}, {bands} band{'s' * (bands > 1)}"
        for (size, dtype, bands), count in seen.unread.most_common()
    ]
    unread = [("unread", f"images whose pixels or labels do not read: {listing(other)}")] if other else []
    if not seen.facts:
        return unread
    rows = [("sizes", sizes_text(seen.sizes)), ("seen", seen_at(seen, report.setting)), ("values", used_text(seen))]
    if first and seen.bands.window is None and seen.bands.dtype != "uint8":
        low, high = seen.bands.percentiles
        rows.append(("window", f"{_window(fitted(seen))}, fitted: percentiles {low:g} and {high:g}"))
    elif seen.bands.window is not None:
        rows.append(("window", f"{_window(seen.bands.window)}, given"))
    proposed = sorted({fact.proposed for fact in seen.facts if fact.proposed})
    if proposed:
        rows.append(("hint", f"the files propose the window {listing(proposed, 3)}"))
    if seen.stacks:
        pages = sum(seen.stacks.values())
        rows.append(("pages", f"{len(seen.stacks)} files of several pages are {pages} of the images"))
    if seen.affines:
        rows.append(("volumes", volumes_text(seen.affines)))
    turned = [fact.turned for fact in seen.facts if fact.turned is not None]
    if any(map(any, turned)):
        images, labels = (sum(column) for column in zip(*turned, strict=True))
        rows.append(("EXIF", f"{images} images and {labels} labels are turned, each as its own EXIF says"))
    rows.append(("labels", labels_text(report.dataset, seen)))
    return rows + unread


def images_text(seen: Look) -> str:
    """Returns how many images a split has, and of how many something is known."""
    failed = seen.records - len(seen.facts)
    looked = f", {len(seen.facts)} looked at" if not seen.whole else f", {failed} do not read" if failed else ""
    return f"{seen.records} image{'s' * (seen.records != 1)}{looked}"


def sizes_text(sizes: Mapping[Size, int]) -> str:
    """Returns the sizes that images have.

    >>> sizes_text({(360, 480): 3})
    '360x480 (height x width)'
    """
    order = sorted(sizes, key=lambda size: -sizes[size])
    if len(order) == 1:
        return f"{_times(order[0])} (height x width)"
    if len(order) <= 3:
        return ", ".join(f"{sizes[size]} of {_times(size)}" for size in order) + " (height x width)"
    low, high = np.min(order, 0).tolist(), np.max(order, 0).tolist()
    return (
        f"{len(order)} sizes (height x width), {_times(low)} to {_times(high)}, most often {_times(order[0])}"
        f" ({sizes[order[0]]} image{'s' * (sizes[order[0]] > 1)})"
    )


def seen_at(seen: Look, setting: Setting) -> str:
    """Returns at what size a network sees the images, and in what windows."""
    factors = np.array([np.divide(setting.resize(*size), size) for size in seen.sizes])
    low, high = factors.min(), factors.max()
    told = "at their size" if low == high == 1 else f"resized by {low:.3g}" + (f" to {high:.3g}" if high > low else "")
    if setting.crop is None:
        return f"{told} (data.resize changes it)"
    cut = window_share(seen, setting)
    if cut and cut[0]:
        told += f"; in windows of {_times(setting.canvas)}, {percent(cut[1])} of an image at a time"
    told += f"; crops of {_times(setting.crop)}"
    return told


def used_text(seen: Look) -> str:
    """Returns the type of the values, and which of them the images use."""
    low, high = (end[np.isfinite(end)] for end in seen.used)
    if not low.size:
        return f"{bands_text(seen.bands)}; none that counts"
    ends = f"{low.min():g} to {high.max():g}"
    if seen.bands.dtype == "float32":
        return f"{bands_text(seen.bands)}; {ends} used"
    least, most = type_range(seen.bands)
    share = (high.max() - low.min()) / (most - least)
    return f"{bands_text(seen.bands)}; {ends} of {least:g} to {most:g} used ({_percent(share)})"


def bands_text(bands: Bands) -> str:
    """Returns the type and the bands of images.

    >>> bands_text(Bands()), bands_text(Bands(("red", "green", "blue", "nir")))
    ('uint8 RGB', 'uint8 of 4 bands (red, green, blue, nir)')
    """
    if bands.names == ("red", "green", "blue"):
        return f"{bands.dtype} RGB"
    return f"{bands.dtype} of {bands.count} band{'s' * (bands.count > 1)} ({listing(bands.names, 6)})"


def labels_text(dataset: Dataset, seen: Look) -> str:
    """Returns the share of what is ignored, and the rarest class."""
    counts = seen.counts
    names = ("not of the class", *dataset.classes) if dataset.num_classes == 1 else dataset.classes
    told = f"{_percent(counts[-1] / max(counts.sum(), 1))} ignored"
    present = np.flatnonzero(counts[:-1])
    if present.size > 1:
        rarest = present[counts[present].argmin()]
        told += f"; rarest: {names[rarest]} {_percent(counts[rarest] / counts[:-1].sum())}"
    single = sum((fact.counts[:-1] > 0).sum() == 1 for fact in seen.facts)
    if single:
        told += f"; {single} of {len(seen.facts)} have one class only"
    return told


def class_rows(dataset: Dataset, seen: Look) -> list[tuple[str, float, int]]:
    """Returns (name, share of the pixels that count, images that have it) of each class."""
    counts, images = seen.counts[:-1], seen.images_with
    names = ("not of the class", *dataset.classes) if dataset.num_classes == 1 else dataset.classes
    return [(name, counts[i] / max(counts.sum(), 1), int(images[i])) for i, name in enumerate(names)]


def _class_table(dataset: Dataset, seen: Look) -> list[str]:
    rows = class_rows(dataset, seen)
    width = max(len(name) for name, _, _ in rows[:SHOWN])
    lines = [f"    {'class':{max(width, 5)}}   share  images"]
    for name, share, images in rows[:SHOWN]:
        lines.append(f"    {name:{max(width, 5)}}  {_percent(share):>7}  {images}")
    rest = len(rows) - SHOWN
    return [*lines, f"    ... and {rest} more classes"] if rest > 0 else lines


def startup(
    dataset: Dataset, looks: Sequence[Look], setting: Setting, preprocessing: Preprocessing
) -> tuple[list[str], list[str]]:
    """Returns the lines on its data that a run begins with, and warnings.

    Args:
      dataset: of the run.
      looks: at the training split and the others, of a part of their images.
      setting: of the run.
      preprocessing: of the run.
    """
    first = looks[0]
    bands = preprocessing.bands
    fit = "" if bands.window is None else f", window {_window(bands.window)}"
    fit += " fitted" if fit and dataset.bands.window is None else ""
    part = "" if first.whole else f" in {len(first.facts)} that were looked at"
    fill = {"reflect": "reflections", "mean": "the mean color"}.get(preprocessing.fill, preprocessing.fill)
    more = f" and {_times(preprocessing.phase)} (height x width) more" if any(preprocessing.phase) else ""
    absent = absent_classes(dataset, first) if first.whole else []
    lines = [
        f"images: {first.records}, {sizes_text(first.sizes)}{part}; {used_text(first)}{fit}; seen"
        f" {seen_at(first, setting)}",
        f"labels: {dataset.num_classes} class{'es' * (dataset.num_classes > 1)}, {labels_text(dataset, first)}"
        + (f"; absent: {listing(absent)}" if absent else ""),
        "evaluation: unpadded"
        if preprocessing.bucket == 1
        else f"evaluation: padded with {fill} to multiples of {preprocessing.bucket}{more}",
    ]
    said = canvas_warnings(first, setting) + [sentence for seen in looks for sentence in image_warnings(seen)]
    for seen in looks:
        if seen.problems:
            count = len(seen.problems) + len(seen.facts)
            said.append(
                f"{len(seen.problems)} of {count} images of the split '{seen.split}' that"
                f" were looked at do not read: {seen.problems[0].sentence}"
            )
        said += [sentence for sentence in judge_labels(dataset, seen)[1] if "is ignored" not in sentence]
    return lines, said


def _window(window: Sequence[Sequence[float]]) -> str:
    told = [f"{low:g}..{high:g}" for low, high in window]
    return told[0] if len(set(told)) == 1 else listing(told, 6)


def _times(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


def _percent(share: float) -> str:
    return "<0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"
