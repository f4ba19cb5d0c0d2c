"""What follows from a look at a data set: errors, warnings and suggestions, and all of it as text."""

import dataclasses
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxseg.checks import UserError, listing, percent
from jaxseg.data import places, suggest
from jaxseg.data.bands import Bands
from jaxseg.data.check import Look, Problem
from jaxseg.data.dataset import Dataset
from jaxseg.data.labels import check_found
from jaxseg.data.resize import AS_STORED, Resize
from jaxseg.data.statistics import fit_mean_and_std, fit_window
from jaxseg.data.volumes import volume_warnings

UNEVEN = 4  # ratio of the class weights from which they are suggested
LITTLE = 0.1  # share of an image that a window shows, below which that is said
DARK = 1 / 8  # of the range of a type; images that use less are nearly black


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a run does with sizes; None where no run is known.

    Args:
      resize: its rule.
      canvas: (height, width) of the windows that are cut.
      crop: (height, width) that the model sees.
      batch_size: images.
    """

    resize: Resize = AS_STORED
    canvas: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    batch_size: int | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """All that is said of a data set.

    Args:
      dataset: its classes and bands, as `create_dataset` returns it.
      looks: at its splits, the one to train on first.
      setting: of the run.
      errors: what must be mended before a run.
      warnings: what may be a mistake.
      suggestions: settings and values to begin with.
    """

    dataset: Dataset
    looks: Sequence[Look]
    setting: Setting
    errors: Sequence[Problem]
    warnings: Sequence[str]
    suggestions: Mapping[str, Any]


def judge(dataset: Dataset, looks: Sequence[Look], setting: Setting | None = None) -> Report:
    """Returns what follows from the looks at all splits, the one to train on first."""
    setting = setting or Setting()
    errors, said = [], []
    for seen in looks:
        errors += seen.problems
        if seen.facts:
            wrong, more = judge_labels(dataset, seen)
            errors += wrong
            said += more + image_warnings(seen) + _masks(dataset, seen) + places.label_warnings(dataset, seen)
    said += _repeated(looks) + places.overlap_warnings(looks)
    if looks and looks[0].facts:
        said += canvas_warnings(looks[0], setting)
    first = looks[0] if looks else None
    suggestions = {} if first is None or not first.facts else suggest.suggest_sizes(first, setting.resize)
    if first is not None and first.facts:
        if first.bands.window is None and first.bands.dtype != "uint8":
            window = fitted(first)
            suggestions["data.options"] = {"window": window[0] if len(window) == 1 else window}
        weights = suggest.median_frequency(first)
        if dataset.num_classes > 1 and weights.min() > 0 and weights.max() > UNEVEN * weights.min():
            suggestions["loss.options"] = {"cross_entropy": {"class_weights": [float(f"{w:.3g}") for w in weights]}}
        if setting.batch_size and setting.batch_size > first.records:
            errors.append(
                Problem(
                    first.split,
                    f"The split '{first.split}' has {first.records} images, fewer than config.data.batch_size="
                    f"{setting.batch_size}. Use a smaller batch.",
                )
            )
    return Report(dataset, looks, setting, errors, said, suggestions)


def with_more(report: Report, problems: Sequence[Problem], suggestions: Mapping[str, Any]) -> Report:
    """Returns the report with further errors, before its own, and further suggestions."""
    return dataclasses.replace(
        report, errors=[*problems, *report.errors], suggestions={**suggestions, **report.suggestions}
    )


def statistics(dataset: Dataset, seen: Look) -> dict[str, Any]:
    """Returns what a run fits to a split, and class weights, as JSON holds them.

    "window" is null where images are used as stored; "mean" and "std" are in 0..255 after the window. "config" has the
    entries of `jaxseg.config` that pin the window and set the weights.
    """
    bands = seen.bands
    if bands.window is None and bands.dtype != "uint8":
        bands = dataclasses.replace(bands, window=fitted(seen))
    mean, std = fit_mean_and_std(seen.samples, bands)
    counts = seen.counts[:-1]
    weights = {
        "median_frequency": suggest.median_frequency(seen),
        "inverse_frequency": suggest.inverse_frequency(counts),
    }
    rounded = {name: [float(f"{w:.5g}") for w in values] for name, values in weights.items()}
    config = {"loss.options": {"cross_entropy": {"class_weights": rounded["median_frequency"]}}}
    if bands.window is not None:
        config = {"data.options": {"window": bands.window}, **config}
    names = ("not of the class", *dataset.classes) if dataset.num_classes == 1 else dataset.classes
    return {
        "split": seen.split,
        "images": seen.records,
        "bands": list(bands.names),
        "dtype": bands.dtype,
        "window": bands.window,
        "mean": [float(f"{v:.6g}") for v in mean],
        "std": [float(f"{v:.6g}") for v in std],
        "share": {name: float(f"{n / max(counts.sum(), 1):.5g}") for name, n in zip(names, counts, strict=True)},
        "ignored": float(f"{seen.counts[-1] / max(seen.counts.sum(), 1):.5g}"),
        "class_weights": rounded,
        "config": config,
    }


def judge_labels(dataset: Dataset, seen: Look) -> tuple[list[Problem], list[str]]:
    """Returns the errors and the warnings about the labels of a split."""
    found = {dataset.ignore if label == dataset.num_labels else label for label in seen.found}
    errors, said = [], []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_found(dataset, seen.split, found, whole=seen.whole)
        except UserError as error:
            errors.append(Problem(seen.split, str(error)))
    said += [str(warning.message) for warning in caught]
    if not caught and not errors and (absent := absent_classes(dataset, seen)):
        told = f"no pixel is of the class {listing(absent, 8)}."
        if not seen.whole:
            told = (
                f"none of the {len(seen.facts)} of {seen.records} images that were looked at has the class"
                f" {listing(absent, 8)}; others may: `jaxseg data check` looks at all of them."
            )
        said.append(
            f"{seen.split}: {told} What is not in the training split is not learned; in others its IoU is not defined,"
            " and the mean leaves it out."
        )
    return errors, said


def absent_classes(dataset: Dataset, seen: Look) -> list[str]:
    """Returns the names of the classes that no pixel has."""
    first = 1 if dataset.num_classes == 1 else 0
    return [name for i, name in enumerate(dataset.classes) if i + first not in seen.found]


def image_warnings(seen: Look) -> list[str]:
    """Returns the warnings about the images of a split."""
    said = []
    told = [fact.turned for fact in seen.facts if fact.turned is not None]
    alone = sum(image and not label for image, label in told)
    if alone:
        said.append(
            f"{seen.split}: {alone} of {len(told)} images are turned by EXIF and their labels are not: the labels must"
            " be upright, as the images are shown. If they were drawn on the images as stored, turn them too."
        )
    if (odd := sum(label and not image for image, label in told)) > 0:
        said.append(
            f"{seen.split}: {odd} labels are turned by EXIF and their images are not. Look at the sheet: --html."
        )
    low, high = seen.used
    whole = type_range(seen.bands)
    if seen.bands.dtype == "uint8" and seen.bands.window is None and high.max() < DARK * whole[1]:
        said.append(
            f"{seen.split}: the greatest value of the images is {high.max():g} of 255: they are nearly black. Are these"
            f" ids, or another unit? Give the range: data.options.window=({low.min():g}, {high.max():g})."
        )
    said += suggest.suggest_nodata(seen) + places.order_warnings(seen) + places.scaling_warnings(seen)
    if nothing := [n for n, a in zip(seen.bands.names, low, strict=True) if np.isinf(a)]:
        said.append(f"{seen.split}: the band {listing(nothing)} holds nothing in any image.")
    if flat := [n for n, a, b in zip(seen.bands.names, low, high, strict=True) if a == b]:
        said.append(f"{seen.split}: the band {listing(flat)} has one value in all images: it says nothing.")
    if (dropped := sum(fact.dropped for fact in seen.facts)) > 0:
        said.append(f"{seen.split}: the transparency of {dropped} images is dropped; the colors beneath are used.")
    if (masked := sum(fact.masked for fact in seen.facts)) > 0:
        said.append(f"{seen.split}: the masks inside {masked} images are not used: what they hide is learned, too.")
    return said + (volume_warnings(seen.split, seen.affines) if seen.affines else [])


def canvas_warnings(seen: Look, setting: Setting) -> list[str]:
    """Returns a warning where windows show little of the images of the training split."""
    cut = window_share(seen, setting)
    if cut is None or cut[1] >= LITTLE:
        return []
    return [
        f"{seen.split}: {cut[0]} of {len(seen.facts)} images are larger than data.canvas={setting.canvas}: training"
        f" sees windows of them, {percent(cut[1])} of an image at a time (median). Where that is too little to tell"
        " what a pixel is, enlarge the canvas and the crop, or make images smaller, in evaluation too: data.resize."
    ]


def window_share(seen: Look, setting: Setting) -> tuple[int, float] | None:
    """Returns how many images are larger than the canvas, and the median share of them that a window shows."""
    if setting.canvas is None:
        return None
    sizes = np.array([setting.resize(*fact.size) for fact in seen.facts])
    shares = np.prod(np.minimum(sizes, setting.canvas) / sizes, axis=1)
    return int((shares < 1).sum()), float(np.median(shares[shares < 1])) if (shares < 1).any() else 1.0


def _masks(dataset: Dataset, seen: Look) -> list[str]:
    """Warnings about labels that look odd, from all their pixels."""
    said = []
    blank = [fact.name for fact in seen.facts if not fact.counts[:-1].any()]
    if blank and len(blank) < len(seen.facts):
        said.append(f"{seen.split}: {len(blank)} labels are ignored as a whole: {listing(blank)}.")
    if all(fact.inner is not None for fact in seen.facts):
        inner, counts = np.sum([fact.inner for fact in seen.facts], axis=0), seen.counts
        there = sorted(seen.found - {dataset.num_labels})
        thin = [i for i in there[1:-1] if counts[i] >= 20 and 50 * inner[i] < counts[i]]
        if thin and dataset.num_classes > 2:
            said.append(
                f"{seen.split}: the class {listing([dataset.classes[i] for i in thin])} is only in lines of one pixel:"
                " are the labels interpolated? Values between two ids appear at borders then; resize labels with"
                " nearest neighbors."
            )
    return said


def _repeated(looks: Sequence[Look]) -> list[str]:
    """Warnings about images that occur more than once."""
    first: dict[bytes, tuple[str, str]] = {}
    twice: dict[tuple[str, str], list[str]] = {}
    for seen in looks:
        for fact in seen.facts:
            if not fact.digest:
                continue
            if fact.digest in first:
                split, name = first[fact.digest]
                twice.setdefault((split, seen.split), []).append(f"{fact.name} = {name}")
            else:
                first[fact.digest] = seen.split, fact.name
    said = []
    for (one, other), names in twice.items():
        if one == other:
            said.append(f"{one}: {len(names)} images occur more than once, pixel by pixel: {listing(names)}.")
        else:
            said.append(
                f"{len(names)} images of '{other}' are in '{one}' too, pixel by pixel: {listing(names)}. Scores on"
                " images that were trained on say little."
            )
    return said


def fitted(seen: Look) -> tuple[tuple[float, float], ...]:
    """Returns the window that would be fitted to a split, or the one that is given."""
    window = seen.bands.window or fit_window(seen.samples, seen.bands)
    return tuple((float(f"{low:.6g}"), float(f"{high:.6g}")) for low, high in window)


def type_range(bands: Bands) -> tuple[float, float]:
    """Returns the least and the greatest value of the type of images; of float32, (0, 1)."""
    if bands.dtype == "float32":
        return 0.0, 1.0
    limits = np.iinfo(bands.dtype)
    return float(limits.min), float(limits.max)


def grouped(problems: Sequence[Problem]) -> list[tuple[str, int]]:
    """Returns the sentences, and for how many files each stands: alike but for paths and numbers, said once.

    >>> grouped([Problem("a1", "a1 holds 3."), Problem("a2", "a2 holds 4."), Problem("b", "b is empty.")])
    [('a1 holds 3.', 2), ('b is empty.', 1)]
    """
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kind = re.sub(r"\S*/\S*|\d+", "", problem.sentence.replace(problem.where, ""))
        kinds.setdefault(re.sub(r"[\s,]+", " ", kind), []).append(problem)
    return [(alike[0].sentence, len(alike)) for alike in kinds.values()]


def as_settings(suggestions: Mapping[str, Any]) -> list[str]:
    """Returns suggestions as lines of a config file."""
    lines = []
    for key, value in suggestions.items():
        if key == "classes.json":
            lines.append(f"classes.json, names to be mended: {json.dumps(value)}")
            continue
        if key.count(".") == 1 and isinstance(value, dict):
            lines.append(f"c.{key}.update({json.dumps(value) if key != 'data.options' else value})")
        else:
            lines.append(f"c.{key} = {value}")
    return lines
