"""Suggestions from what was seen of a data set: its classes.json, class weights, and the sizes of a run's windows."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from jaxseg.checks import UserError, listing, percent
from jaxseg.data import layouts, readers
from jaxseg.data.check import Look, pairs_of
from jaxseg.data.dataset import LARGEST, Dataset
from jaxseg.data.labels import Relabeled, count_values, look_interpolated
from jaxseg.data.legend import from_document
from jaxseg.data.matching import matching
from jaxseg.data.resize import AS_STORED, Resize
from jaxseg.data.statistics import far_value

MOST = 256  # values or colors of which a classes.json is suggested
FILES = 64  # labels that are looked at for it
_PIXELS = 2**20  # of the images of a batch: 16 of 256 x 256


def suggest_nodata(seen: Look) -> list[str]:
    """Returns a sentence if a value of the images seems to stand for nothing, which would spoil a fitted window."""
    told = {fact.nodata if fact.nodata is None else f"{fact.nodata:.9g}" for fact in seen.facts}  # nan is not nan
    one = "no value" if seen.bands.nodata is None else f"{seen.bands.nodata:.9g}"
    if len(told) > 1 and (others := sorted(told - {None, one}, key=float)):
        named = listing(others)
        return [
            f"{seen.split}: by what files say, {named} holds nothing in some, but {one} is taken for"
            " that in all. Make the files alike (gdal_edit.py -a_nodata), or give data.options.nodata."
        ]
    if seen.bands.dtype == "uint8" or seen.bands.window is not None:
        return []
    if (found := far_value(seen.samples, seen.bands)) is None:
        return []
    value, share, low, high = found
    return [
        f"{seen.split}: {percent(share)} of the values are {value:g}, far from all others, {low:g} to {high:g}. If"
        f" it stands for nothing: data.options.nodata={value:g}; if not, give data.options.window."
    ]


def suggest_classes(dataset: Dataset) -> dict[str, Any] | None:
    """Returns a document for classes.json, None if the labels are no ids, masks or colors.

    Args:
      dataset: "folder", of any legend; only files are looked at.
    """
    values: dict[int, int] = {}
    colors: set[tuple[int, ...]] = set()
    for source in dataset.splits.values():
        for file in _label_files(source)[:FILES]:
            try:
                stored = readers.read_label(file)
            except UserError:
                continue
            if stored.ndim == 3 and not (stored == stored[..., :1]).all():
                colors.update(map(tuple, np.unique(stored.reshape(-1, 3), axis=0)[: MOST + 1].tolist()))
                continue
            found, counts = count_values(np.ascontiguousarray(stored[..., 0] if stored.ndim == 3 else stored))
            for value, count in zip(found.tolist(), counts.tolist(), strict=True):
                values[value] = values.get(value, 0) + count
    if colors:
        return _of_colors(sorted(colors)) if len(colors) <= MOST and not values else None
    return _of_values(values) if 0 < len(values) <= MOST and min(values) >= 0 else None


def suggest_values(dataset: Dataset) -> dict[str, Any] | None:
    """Returns a document for classes.json with the set's own names, where its labels are masks of 0 and 255.

    Args:
      dataset: "folder", of one or two classes.
    """
    document = suggest_classes(dataset) if dataset.num_classes <= 2 else None
    if document is None or [e.get("values") for e in document["classes"] if isinstance(e, dict)] != [[0], [255]]:
        return None
    entries = document["classes"][-dataset.num_classes :]
    entries = [{**entry, "id": i, "name": dataset.classes[i]} for i, entry in enumerate(entries)]
    return {**document, "classes": entries}


def _label_files(source: Any) -> list[str]:
    try:
        pairs = pairs_of(source)
    except UserError:
        pairs = pairs_of(matching(source)[0])
    return list(dict.fromkeys(pair.label for pair in pairs))


def _of_values(values: Mapping[int, int]) -> dict[str, Any] | None:
    found = np.array(sorted(values))
    if set(values) <= {0, 255} and len(values) == 2:
        cell = {"id": 1, "name": "foreground", "values": [255]}
        return {"ignore": 254, "classes": [{"id": 0, "name": "background", "values": [0]}, cell]}
    counts = np.array([values[v] for v in found.tolist()])
    if look_interpolated(found, counts, found[found > 1].tolist()):
        return None
    kept = [v for v in found.tolist() if v != 255]
    if kept and kept[-1] < 2 * len(kept):
        return {"classes": [f"class{i}" for i in range(kept[-1] + 1)]}
    entries = [{"id": i, "name": f"class{v}", "values": [v]} for i, v in enumerate(kept)]
    return {"ignore": 255, "classes": entries} if entries else None


def _of_colors(colors: list[tuple[int, ...]]) -> dict[str, Any]:
    entries = [{"id": i, "name": f"class{i}", "color": list(color)} for i, color in enumerate(colors)]
    return {"classes": entries}


def with_classes(dataset: Dataset, document: Mapping[str, Any]) -> Dataset:
    """Returns the data set "folder" with the classes of a document in place of its own."""
    classes = from_document(document)
    splits = {
        name: Relabeled(dataclasses.replace(source.source, legend=classes), len(classes.names), classes.ignore)
        for name, source in dataset.splits.items()
    }
    given = {"classes": classes.names, "palette": classes.palette, "ignore": classes.ignore, "values": classes.stored}
    return dataclasses.replace(dataset, splits=splits, **given)


def placeholder_options() -> dict[str, int]:
    """Returns options that build the data set "folder" without a classes.json, to look at its files."""
    return {"num_classes": LARGEST}


def options_for(root: str, error: str) -> dict[str, Any]:
    """Returns options with which a folder may be looked at that does not open with the error; empty if none are known.

    Args:
      root: of the data set "folder".
      error: its text.
    """
    if "holds no split" in error:
        return dict(layouts.suggest_options(Path(root).expanduser()) or {})
    return placeholder_options() if "so the classes are not known" in error else {}


def median_frequency(seen: Look) -> Float[np.ndarray, " c"]:
    """Returns a weight per label: median(f) / f, by Eigen and Fergus (2015, arXiv:1411.4734, section 6.3.2).

    f is the share of a class in the pixels of the images that have it. Absent classes get 0.
    """
    counts, of = seen.counts[:-1], seen.pixels_with[:-1]
    share = counts / np.maximum(of, 1)
    median = float(np.median(share[counts > 0])) if counts.any() else 0.0
    return np.where(counts > 0, median / np.where(counts > 0, share, 1), 0.0)


def inverse_frequency(counts: Integer[np.ndarray, " c"]) -> Float[np.ndarray, " c"]:
    """Returns pixels / (classes present x pixels of the class), whose mean over pixels is 1; 0 for an absent class.

    >>> inverse_frequency(np.array([4, 0, 1])).tolist()
    [0.625, 0.0, 2.5]
    """
    present = counts > 0
    return np.where(present, counts.sum() / (max(present.sum(), 1) * np.where(present, counts, 1)), 0.0)


def suggest_sizes(seen: Look, resize: Resize = AS_STORED) -> dict[str, Any]:
    """Returns data.crop, data.canvas and data.batch_size to begin with.

    The crop is a multiple of 32 (of 16 below 128), up to 512, that nine of ten images fill; the canvas is as large as
    the largest image, but at most twice the crop; a batch has about as many pixels as 16 images of 256 x 256.

    Args:
      seen: the training split, of at least one image that reads.
      resize: the run's rule.
    """
    sizes = np.array([resize(*size) for size in seen.sizes.elements()])
    low = np.percentile(sizes, 10, axis=0)
    crop = [int(min(512, n // 32 * 32)) if n >= 128 else int(max(16, n // 16 * 16)) for n in low]
    canvas = [int(max(c, min(2 * c, n))) for c, n in zip(crop, sizes.max(0), strict=True)]
    batch = 2 ** int(np.log2(max(1, min(32, _PIXELS // (crop[0] * crop[1]), max(1, seen.records)))))
    return {"data.canvas": tuple(canvas), "data.crop": tuple(crop), "data.batch_size": batch}
