"""The data set record, the relabeling that any data set can be given, and the checks made before training."""

import collections
import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from jaxseg.checks import Unreadable, UserError, listing, lookup
from jaxseg.data.bands import RGB, Bands
from jaxseg.data.labels import Relabeled as Relabeled
from jaxseg.data.labels import check_found
from jaxseg.files import plain

if TYPE_CHECKING:
    from jaxseg.data.check import Look

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
        object.__setattr__(self, "classes", tuple(plain(str(name)) for name in self.classes))  # they are printed
        if not 1 <= len(self.classes) <= LARGEST:
            raise UserError(f"Data set '{self.name}' has {len(self.classes)} classes, expected 1 to {LARGEST}.")
        if len(self.palette) != len(self.classes):
            raise UserError(
                f"Data set '{self.name}' has {len(self.classes)} classes but {len(self.palette)} colors in its"
                " palette. Give each class one color."
            )
        twice = [name for name, count in collections.Counter(self.classes).items() if count > 1]
        if twice:
            raise UserError(
                f"Data set '{self.name}' has several classes of the name {listing(twice)}: their scores could not be"
                " told apart. Give each class a name of its own, in classes.json or data.options."
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


def check_dataset(dataset: Dataset, split: str, *, seconds: float = 0.5, strict: bool = True) -> "Look":
    """Raises a `UserError` if `split` does not exist, is empty or holds a record that does not read; says what it saw.

    Reads at least four records, spread over the split, and goes on for `seconds`, which is enough for all of a small
    set; training then starts without having read a large one. The others are checked as they are read.

    Args:
      dataset: the data set.
      split: the name of one of its splits.
      seconds: to look for.
      strict: whether a file that does not read is an error; it is else one only where no record reads.
    """
    from jaxseg.data.check import Look, Problem, facts_of

    source = lookup(dataset.splits, split, "split")
    if len(source) == 0:
        raise UserError(f"Split '{split}' of the data set '{dataset.name}' is empty, expected images and labels.")
    seen = Look(split, len(source), dataset.bands, [])
    start = time.perf_counter()
    found: set[int] = set()
    for looked_at, index in enumerate(np.random.default_rng(0).permutation(len(source)).tolist()):
        # Masks that seem to lack a class are worth a longer look, since they are refused.
        odd = dataset.num_classes <= 2 and len(found - {dataset.ignore}) < 2 and looked_at < 64
        enough = looked_at >= (4 if seen.facts else 64)
        if enough and time.perf_counter() > start + seconds * (10 if odd else 1):
            seen.whole = False
            break
        try:
            seen.facts.append(facts_of(dataset, source, index, sample=looked_at < 8))
        except Unreadable as error:
            if strict:
                raise
            seen.problems.append(Problem(split, str(error)))
            continue
        found.update(dataset.ignore if n == dataset.num_labels else n for n in seen.facts[-1].labels)
    if not seen.facts:
        raise UserError(f"No image of the split '{split}' that was looked at reads: {seen.problems[0].sentence}")
    check_found(dataset, split, found, whole=seen.whole)
    return seen
