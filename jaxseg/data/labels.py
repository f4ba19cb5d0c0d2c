"""Labels that become class ids: quickly, and checked to be nothing else."""

import dataclasses
import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg.checks import UserError, listing

if TYPE_CHECKING:
    from jaxseg.data.dataset import Dataset, Source

INSTANCES = 1000  # Cityscapes and others store class * 1000 + number of the object


@dataclasses.dataclass(frozen=True)
class Relabeled:
    """A source whose labels become class ids or the ignore label, and are checked to be nothing else.

    They are uint8 where these fit, else uint16. If `source` reads windows (`size` and `read`), so does this.

    Args:
      source: the records as the data set stores them.
      num_classes: ids at or above it are an error; of one class the ids are 0, not of the class, and 1.
      ignore: the ignore label; pixels that have it keep it.
      offset: added to every value that is not ignored.
      also_ignored: further stored values that become `ignore`, before the offset.
    """

    source: "Source"
    num_classes: int
    ignore: int
    offset: int = 0
    also_ignored: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._relabeled(dict(self.source[index]))

    @property
    def identity(self) -> Any:
        """The method of the source that tells its records from others; none if the source has none."""
        return self.source.identity

    @property
    def size(self) -> Any:
        """The method of the source that returns the (height, width) of a record; none if the source has none."""
        return self.source.size

    @property
    def read(self) -> Any:
        """A method that reads a window of a record; none if the source has none."""
        whole = self.source.read
        return lambda index, window: self._relabeled(dict(whole(index, window=window)))

    def _relabeled(self, record: dict[str, Any]) -> dict[str, Any]:
        record["label"] = self.relabel(record["label"], record.pop("file", record["name"]))
        return record

    def relabel(self, label: np.ndarray, file: str) -> np.ndarray:
        """Returns `label` in [0, num_classes) or `ignore`; `file` is named in the error otherwise."""
        found, counts = count_values(label)
        ignored = np.isin(found, (self.ignore, *self.also_ignored))
        ids = np.where(ignored, self.ignore, found + self.offset)
        wrong = ~ignored & ((ids < 0) | (ids >= max(self.num_classes, 2)))
        if wrong.any():
            raise UserError(self._complaint(file, found, counts, found[wrong]))
        dtype = np.uint8 if max(self.num_classes, self.ignore) <= 255 else np.uint16
        return replace_values(label, found, ids.astype(dtype))

    def _complaint(self, file: str, found: np.ndarray, counts: np.ndarray, wrong: np.ndarray) -> str:
        after = f" after the offset {self.offset:+d}" if self.offset else ""
        last = max(self.num_classes, 2) - 1
        return (
            f"{file}: expected class ids 0 to {last} or {self.ignore} (ignored){after}, got"
            f" {listing(wrong.tolist(), 12)} (the file holds {listing(found.tolist(), 12)})."
            f" {self._remedy(found, counts, wrong)}"
        )

    def _remedy(self, found: np.ndarray, counts: np.ndarray, wrong: np.ndarray) -> str:
        last = max(self.num_classes, 2) - 1
        if look_interpolated(found, counts, wrong.tolist()):
            return INTERPOLATED
        if len(wrong) == 1 and wrong[0] + self.offset < 0:
            return f"If {wrong[0]} means 'unlabeled', set label_ignore=({wrong[0]},)."
        if wrong.max() >= INSTANCES:
            return (
                f"These look like ids of objects (class times {INSTANCES} plus a number), not of classes: use the files"
                " of class ids."
            )
        if set(found.tolist()) <= {0, 128, 254, 255} and len(found) == 2:
            return values_remedy(int(found[-1]), self.num_classes)
        kept = found[found != self.ignore]
        if not self.offset and kept[0] > 0 and kept[-1] - kept[0] <= last:
            return f"If the ids start at {kept[0]}, set label_offset=-{kept[0]}; to ignore some, label_ignore."
        return (
            f"If these pixels are to be ignored, list their values in label_ignore or store {self.ignore}; if they"
            ' stand for classes, give these classes their "values" in classes.json; otherwise name all classes of the'
            " data set."
        )


INTERPOLATED = (
    "The label looks interpolated (antialiased): resize labels with nearest neighbors, and threshold masks that were"
    " drawn with soft edges."
)


def values_remedy(value: int, num_classes: int) -> str:
    """Says how a stored value that stands for the last of one or two classes is written in classes.json."""
    entry = f'{{"name": "...", "values": [{value}]}}'
    classes = entry if num_classes == 1 else f'"...", {entry}'
    ignore = '"ignore": 254, ' if value == 255 else ""
    return f'If {value} stands for a class, say so in classes.json: {{{ignore}"classes": [{classes}]}}.'


def count_values(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct values of an array of integers, int64 and in order, and how often each occurs.

    >>> count_values(np.array([[7, 0], [7, 7]], np.uint8))
    (array([0, 7]), array([1, 3]))
    """
    if label.dtype == np.uint8 and label.ndim == 2 and label.size:
        from PIL import Image

        counts = np.asarray(Image.fromarray(label).histogram(), np.int64)  # five times as fast as np.bincount
    elif label.dtype in (np.uint8, np.uint16):
        counts = np.bincount(label.ravel(), minlength=1)
    else:
        found, counts = np.unique(label, return_counts=True)
        return found.astype(np.int64), counts
    found = np.flatnonzero(counts)
    return found, counts[found]


def replace_values(label: np.ndarray, found: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Returns `label` with each of the values `found`, which are all it holds, replaced by that of `new`.

    >>> replace_values(np.array([[7, 0]], np.uint8), np.array([0, 7]), np.array([4, 2], np.uint8))
    array([[2, 4]], dtype=uint8)
    """
    if label.dtype == new.dtype and np.array_equal(found, new):
        return label
    if label.dtype not in (np.uint8, np.uint16):
        return new[np.searchsorted(found, label)]
    table = np.zeros(256 if label.dtype == np.uint8 else int(found[-1]) + 1, new.dtype)
    table[found] = new
    if label.dtype == new.dtype == np.uint8:
        return np.frombuffer(bytearray(label.tobytes().translate(table.tobytes())), np.uint8).reshape(label.shape)
    return np.take(table, label)


def look_interpolated(found: np.ndarray, counts: np.ndarray, wrong: Collection[int]) -> bool:
    """Whether values that are of no class seem to be mixtures of others, as resizing and soft brushes leave them.

    There are then several between the smallest and the largest value, far apart, and each is rarer than these.
    """
    odd = np.isin(found, np.fromiter(wrong, np.int64))
    between = odd[1:-1]
    span = 100 if odd[-1] else 16  # a few ids more than there are classes are no mixtures
    if between.sum() < 3 or odd[0] or found[-1] - found[0] < span:
        return False
    mixed = counts[1:-1][between]
    return bool(mixed.max() < min(counts[0], counts[-1]) and 2 * mixed.sum() < counts.sum())


def check_found(dataset: "Dataset", split: str, found: Collection[int], *, whole: bool) -> None:
    """Judges the labels of the records that were looked at together.

    Raises a `UserError` where the ignore label is all that masks of one or two classes hold besides 0, and where one
    class is all that counts: nothing could be learned. Warns where nothing counts.

    Args:
      dataset: as `create_dataset` returns it.
      split: the name of the split.
      found: the labels that occur in the records looked at.
      whole: whether these are all records of the split.
    """
    where = f"The labels{'' if whole else ' looked at'} in split '{split}' of the data set '{dataset.name}'"
    if set(found) == {dataset.ignore}:
        warnings.warn(f"{where} hold {dataset.ignore} only, which is ignored: nothing is learned or scored there.")
    if dataset.num_classes <= 2 and set(found) == {0, dataset.ignore} and dataset.values is None:
        what = "the class" if dataset.num_classes == 1 else "class 1"
        raise UserError(
            f"{where} hold 0 and {dataset.ignore} only, and {dataset.ignore} is ignored: {what} would never be learned."
            f" {values_remedy(dataset.ignore, dataset.num_classes)} If {dataset.ignore} is to be ignored, say which"
            f' value stands for {what}: "values": [1].'
        )
    if dataset.num_classes == 1 and whole and 1 in found and 0 not in found:
        raise UserError(
            f"{where} hold the class '{dataset.classes[0]}' and no pixel that is not of it: any network would score"
            " perfectly. Pixels of other things count only if their value is not ignored: 0 stands for them, unless"
            " classes.json lists it."
        )
