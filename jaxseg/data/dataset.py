"""The data set record, the relabeling that any data set can be given, and the checks made before training."""

import dataclasses
import time
import warnings
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxseg.checks import UserError, listing, lookup
from jaxseg.data.bands import RGB, Bands

LARGEST = 65534  # classes at most: labels are uint8 or uint16, and one value is the ignore label


@runtime_checkable
class Source(Protocol):
    """Random access to the records of one split; picklable, because worker processes get a copy."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A segmentation data set: its classes, their colors, and its splits.

    Args:
      name: its name in messages.
      classes: the class names; a label is an index into them.
      palette: one RGB color per class, 0..255.
      splits: split name -> `Source`.
      ignore: the label, from the number of classes up to 255 (up to 65535, if there are more than 255 classes), of
        pixels left out of training and scores. A data set of one class has the labels 0, not of the class, and 1.
      bands: of the images.
      values: of each class, the values that stand for it in the label files; the first is what `jaxseg predict
        --values` writes. None where files hold the ids.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    splits: Mapping[str, Source]
    ignore: int = 255
    bands: Bands = RGB
    values: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= LARGEST:
            raise UserError(f"Data set '{self.name}' has {len(self.classes)} classes, expected 1 to {LARGEST}.")
        if len(self.palette) != len(self.classes):
            raise UserError(
                f"Data set '{self.name}' has {len(self.classes)} classes but {len(self.palette)} colors in its"
                " palette. Give each class one color."
            )
        largest = 255 if self.num_classes <= 255 else LARGEST + 1
        if not self.num_labels <= self.ignore <= largest:
            raise UserError(
                f"Data set '{self.name}' has ignore label {self.ignore}, expected {self.num_labels} to {largest}: ids"
                f" below {self.num_labels} are classes. {largest} is the usual choice."
            )

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def num_labels(self) -> int:
        """The number of ids that labels may have: that of the classes, and 2 where there is one class."""
        return max(self.num_classes, 2)

    @property
    def label_type(self) -> type[np.unsignedinteger]:
        """Of label maps that hold every id and the ignore label."""
        return np.uint8 if self.ignore <= 255 else np.uint16


def palette_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """Returns `count` well separated RGB colors, always the same ones, for data sets without a palette.

    Hues step by the golden ratio while saturation and value alternate, so that neighbors in id differ most.

    >>> palette_colors(2)
    ((64, 64, 72), (230, 89, 80))
    """
    import colorsys

    colors = [(64, 64, 72)]  # id 0 is most often the background
    for i in range(count - 1):
        hue = (0.01 + 0.618034 * i) % 1.0
        saturation, value = ((0.65, 0.9), (0.85, 0.7), (0.45, 1.0))[i % 3]
        colors.append(tuple(round(255 * v) for v in colorsys.hsv_to_rgb(hue, saturation, value)))
    return tuple(colors[:count])


@dataclasses.dataclass(frozen=True)
class Relabeled:
    """A source whose labels become uint8 class ids or the ignore label, and are checked to be nothing else.

    Args:
      source: the records as the data set stores them.
      num_classes: ids at or above it are an error.
      ignore: the ignore label; pixels that have it keep it.
      offset: added to every value that is not ignored.
      also_ignored: further stored values that become `ignore`, before the offset.
    """

    source: Source
    num_classes: int
    ignore: int
    offset: int = 0
    also_ignored: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = dict(self.source[index])
        record["label"] = self.relabel(record["label"], record.pop("file", record["name"]))
        return record

    def relabel(self, label: np.ndarray, file: str) -> np.ndarray:
        """Returns `label` as uint8 in [0, num_classes) or `ignore`; `file` is named in the error otherwise."""
        if label.dtype == np.uint8:
            found = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
        else:
            found = np.unique(label)
        ignored = np.isin(found, (self.ignore, *self.also_ignored))
        ids = np.where(ignored, self.ignore, found.astype(np.int64) + self.offset)
        wrong = ~ignored & ((ids < 0) | (ids >= self.num_classes))
        if wrong.any():
            raise UserError(self._complaint(file, found, found[wrong]))
        if label.dtype == np.uint8:
            table = np.zeros(256, np.uint8)
            table[found] = ids
            return table[label]
        return ids.astype(np.uint8)[np.searchsorted(found, label)]

    def _complaint(self, file: str, found: np.ndarray, wrong: np.ndarray) -> str:
        after = f" after the offset {self.offset:+d}" if self.offset else ""
        if len(wrong) == 1 and wrong[0] + self.offset < 0:
            remedy = f"If {wrong[0]} means 'unlabeled', set label_ignore=({wrong[0]},)."
        elif 0 in found or self.offset:
            remedy = (
                f"If these pixels are to be ignored, list their values in label_ignore or store {self.ignore};"
                " otherwise name all classes of the data set."
            )
        else:
            remedy = f"If the ids start at {found[0]}, set label_offset=-{found[0]}; to ignore some, label_ignore."
        return (
            f"{file}: expected class ids 0 to {self.num_classes - 1} or {self.ignore} (ignored){after}, got"
            f" {listing(wrong, 12)} (the file holds {listing(found, 12)}). {remedy}"
        )


def check_dataset(dataset: Dataset, split: str, *, seconds: float = 0.5) -> None:
    """Raises a `UserError` if `split` does not exist, is empty or holds a record that does not read.

    Reads at least four records, spread over the split, and goes on for `seconds`, which is enough for all of a small
    set; training then starts without having read a large one. The others are checked as they are read.
    """
    source = lookup(dataset.splits, split, "split")
    if len(source) == 0:
        raise UserError(f"Split '{split}' of the data set '{dataset.name}' is empty, expected images and labels.")
    found: set[int] = set()
    end = time.perf_counter() + seconds
    for looked_at, index in enumerate(np.random.default_rng(0).permutation(len(source)).tolist()):
        if looked_at >= 4 and time.perf_counter() > end:
            break
        found.update(np.unique(source[index]["label"]).tolist())
    if dataset.num_classes == 2 and found == {0, dataset.ignore}:
        warnings.warn(
            f"The labels looked at in split '{split}' of the data set '{dataset.name}' hold 0 and"
            f" {dataset.ignore} only, and {dataset.ignore} is ignored: class 1 would never be learned. If"
            f" {dataset.ignore} stands for class 1, give that class its value in classes.json:"
            f' {{"ignore": 254, "classes": [..., {{"id": 1, "name": "...", "values": [{dataset.ignore}]}}]}}.'
        )
