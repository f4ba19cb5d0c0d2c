"""What an evaluation reads: images ready for the network. Those that do not read are left out, which is said."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxseg.checks import Unreadable, UserError
from jaxseg.data.bands import Bands, ignore_empty
from jaxseg.data.dataset import Source
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference.batches import as_stored, resize_image

SHOWN = 20  # reasons in a message


@dataclasses.dataclass(frozen=True)
class Readable:
    """A source that gives, in place of a record that does not read, {"unreadable": why}."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        try:
            return self.source[index]
        except Unreadable as error:
            return {"unreadable": str(error)}


@dataclasses.dataclass(frozen=True)
class Counted:
    """A source of images as the model's bands have them, whose labels are ignored where an image holds nothing.

    Args:
      source: the records.
      bands: of the model.
      ignore: the ignore label.
    """

    source: Source
    bands: Bands
    ignore: int

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        record = self.source[index]
        image = as_stored(record["image"], self.bands)
        return {**record, "image": image, "label": ignore_empty(record["label"], image, self.bands, self.ignore)}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A source of the records of another, and "resized", their images as the network sees them.

    So those who read, which are several threads, also resize.
    """

    source: Source
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        record = self.source[index]
        if "unreadable" in record:
            return record
        return {**record, "resized": resize_image(record["image"], self.preprocessing)}


def summary(split: str, count: int, reasons: Sequence[str]) -> str:
    """Returns what is to be said of the images that were left out; raises a `UserError` where none is left.

    Args:
      split: its name.
      count: of its images.
      reasons: why, of each that does not read.

    >>> print(summary("val", 9, ["a.png does not read: it is empty."]))
    1 of 9 images of the split 'val' does not read and is in no score; --strict, or config.eval.strict, stops there:
      a.png does not read: it is empty.
    """
    shown = [f"  {reason}" for reason in reasons[:SHOWN]]
    if len(reasons) > SHOWN:
        shown.append(f"  and {len(reasons) - SHOWN} more")
    if len(reasons) == count:
        raise UserError("\n".join([f"None of the {count} images of the split '{split}' reads:", *shown]))
    verb, be = ("does", "is") if len(reasons) == 1 else ("do", "are")
    first = f"{len(reasons)} of {count} images of the split '{split}' {verb} not read and {be} in no score;"
    return "\n".join([f"{first} --strict, or config.eval.strict, stops there:", *shown])


def of_how_many(images: int, unreadable: int) -> str:
    """Returns how many images scores are of, and of how many.

    >>> of_how_many(9, 0), of_how_many(8, 1)
    ('9 images', '8 of 9 images (1 does not read)')
    """
    if not unreadable:
        return f"{images} images"
    return f"{images} of {images + unreadable} images ({unreadable} {'does' if unreadable == 1 else 'do'} not read)"
