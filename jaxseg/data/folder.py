"""Folders of images and labels: `ROOT/{train,val,…}/{images,labels}` with equal file names, and other layouts.

Files are those that `jaxseg.data.readers` reads. Labels hold class ids in one band or a palette, or colors that
`ROOT/classes.json` translates (`jaxseg.data.legend`).
"""

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxseg.checks import Unreadable, UserError, closest, listing
from jaxseg.data import layouts, legend, readers
from jaxseg.data.bands import RGB, Bands
from jaxseg.data.dataset import Dataset
from jaxseg.data.identity import identify_files
from jaxseg.data.legend import Legend
from jaxseg.data.pairs import Layout, Pair
from jaxseg.data.readers import Header, StoredLabel
from jaxseg.data.readers.stored import Window

_NAMES = ("train", "val", "test")


def folder(
    root: str,
    *,
    num_classes: int | None = None,
    bands: Sequence[int | str] | None = None,
    window: Sequence[Any] | None = None,
    percentiles: tuple[float, float] | None = None,
    nodata: float | None = None,
    images: str = "images",
    labels: str = "labels",
    image_suffix: str = "",
    label_suffix: str = "",
    lists: str | Mapping[str, str] = "",
    split: Sequence[float] | Mapping[str, float] = (),
    group: str = "",
    seed: int = 0,
) -> Dataset:
    """A folder of images and labels; each sub-folder of `root` that holds `images` or `labels` is a split.

    Args:
      root: the folder described above.
      num_classes: replaces `classes.json` where there is none: labels hold ids 0 to num_classes - 1, or 255.
      bands: which bands of the files to use, by number from 0 or by name; all if None.
      window: (low, high), the stored values that become 0 and 255, or one such pair a band. Without it, images of 8
        bits are used as they are, and others between two percentiles of the training split.
      percentiles: (low, high), 0 to 100; those two.
      nodata: the stored value of pixels that hold nothing, whose labels are ignored.
      images: the folder of images in that of a split. `DIR/{split}` has the splits inside: `leftImg8bit/{split}`.
      labels: the folder of labels, likewise.
      image_suffix: what the names of images have before the extension, and their labels have not; others are skipped.
      label_suffix: what the names of labels have, such as `_mask`.
      lists: the lists of the splits' names, `ImageSets/{split}.txt` or {"train": "a.txt", …}; `images` and `labels`
        are then folders of `root`.
      split: shares, such as (0.8, 0.2) for train and val or {"train": 0.8, "val": 0.1, "test": 0.1}, by which the files
        in `root/images` are divided. The pages of a file stay together.
      group: a regular expression; files stay together whose names have the same first group (or match) of it: those of
        one patient or scene. Where splits are given, a group in two of them is an error.
      seed: of the division.
    """
    path = Path(root).expanduser()
    if not path.is_dir():
        raise UserError(f"Data folder '{root}' does not exist. Set data.root to the folder that holds the splits.")
    try:
        re.compile(group)
    except (re.error, TypeError) as error:
        raise UserError(f"data.options.group={group!r} is no regular expression: {error}.") from None
    listed = lists if isinstance(lists, str) else tuple((str(k), str(v)) for k, v in lists.items())
    layout = Layout(path, images, labels, image_suffix, label_suffix, listed, _division(split), group, int(seed))
    names = layout.splits()
    if not names:
        raise layouts.no_split(path)
    classes = _read_legend(layout, num_classes, names)
    if window is not None and percentiles is not None:
        raise UserError("Give data.options.window or percentiles, not both: percentiles say where a window ends.")
    first, known = _first_header(layout)
    chosen = None if bands is None or known is None else tuple(_number(band, known, first) for band in bands)
    kind = RGB if known is None else _bands(known, chosen, nodata)
    kind = dataclasses.replace(kind, window=kind.window if window is None else window)
    if percentiles is not None:
        kind = dataclasses.replace(kind, percentiles=tuple(percentiles))
    splits = {name: Folder(layout, name, classes, kind, chosen) for name in names}
    return Dataset("folder", classes.names, classes.palette, splits, classes.ignore, kind, classes.stored)


@runtime_checkable
class Files(Protocol):
    """Where the files of a data set are: a `Layout`, or what lists them in another way."""

    def pairs(self, split: str) -> tuple[Pair, ...]:
        """Returns the records of a split."""


@runtime_checkable
class Meaning(Protocol):
    """What the values in label files stand for: a `Legend`, or the table of a published set."""

    def read(self, stored: StoredLabel, file: str) -> np.ndarray:
        """Returns the labels of what a file holds, integers[h, w]."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """One split, listed at the first use.

    Args:
      layout: where the files are.
      split: its name.
      legend: what labels mean.
      bands: of every image; one that has others is an error.
      chosen: the numbers of the bands to read, None for all.
    """

    layout: Files
    split: str
    legend: Meaning
    bands: Bands
    chosen: tuple[int, ...] | None = None

    @functools.cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every record."""
        return self.layout.pairs(self.split)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._record(self.pairs[index], None)

    def identity(self) -> dict[str, str]:
        """Returns digests of the names and the files of the records, see `jaxseg.data.identity`."""
        names = [pair.name if pair.page is None else f"{pair.name}[{pair.page}]" for pair in self.pairs]
        return identify_files(names, [(pair.image, pair.label) for pair in self.pairs])

    def size(self, index: int) -> tuple[int, int]:
        """Returns the height and width of a record."""
        known = readers.header(self.pairs[index].image)
        return known.height, known.width

    def read(self, index: int, window: Window) -> dict[str, Any]:
        """Returns the part of a record inside `window`, (top, left, height, width)."""
        pair = self.pairs[index]
        label = readers.header(pair.label, label=True)
        self._check_size(pair, self.size(index), (label.height, label.width))
        return self._record(pair, window)

    def _record(self, pair: Pair, window: Window | None) -> dict[str, Any]:
        image = readers.read_image(pair.image, page=pair.page or 0, window=window, bands=self.chosen)
        image = self.bands.check(image, pair.image)
        stored = readers.read_stored_label(pair.label, page=pair.page or 0, window=window)
        self._check_size(pair, image.shape, stored.values.shape[:2])
        return {
            "image": image,
            "label": self.legend.read(stored, pair.label),
            "name": pair.name,
            "file": pair.label,
        }

    def _check_size(self, pair: Pair, image: tuple[int, ...], label: tuple[int, ...]) -> None:
        if label == image[:2]:
            return
        turned = ""
        if label == image[1:]:
            turned = " Its bands come first: save it as [height, width, bands]."
        if label == image[1::-1]:
            turned = " Its rows and columns are those of the image exchanged."
            if readers.header(pair.image).turned != readers.header(pair.label, label=True).turned:
                turned = " The EXIF data of one of the two turn it: both are turned as their own say."
        raise UserError(
            f"{pair.label} is {label[1]}x{label[0]} (width x height) but its image {pair.image} is"
            f" {image[1]}x{image[0]}. Expected one label per pixel: save the label at the image's"
            f" size, enlarging without interpolation.{turned}"
        )


def _division(split: Sequence[float] | Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """(name, share) of the splits that files are to be divided into."""
    if isinstance(split, Mapping):
        shares = tuple((str(name), float(share)) for name, share in split.items())
    else:
        if len(split) > len(_NAMES):
            raise UserError(f"split={tuple(split)} has more than three shares: name them, {{'train': 0.8, …}}.")
        shares = tuple((name, float(share)) for name, share in zip(_NAMES, split, strict=False))
    if any(not share > 0 or math.isinf(share) for _, share in shares) or len(shares) == 1:
        raise UserError(f"split={split} is no division: expected two or more shares above 0, such as (0.8, 0.2).")
    return shares


def _first_header(layout: Layout) -> tuple[str, Header | None]:
    """The first image that reads, to learn what the bands are; none where there is no image."""
    failed = None
    for file in itertools.islice(layout.all_images(), 100):
        try:
            return file, readers.header(file)
        except Unreadable as error:
            failed = failed or error
    if failed:
        raise failed
    return "", None


def _number(band: int | str, known: Header, file: str) -> int:
    """The number of a band that is given by number or name."""
    names = known.stored or known.names
    if isinstance(band, str):
        if band not in names:
            raise UserError(
                f"{file} has no band '{band}'. {closest(band, names)}It has {listing(names, 20)}; give names or numbers"
                " from 0."
            )
        return names.index(band)
    if not 0 <= int(band) < len(names):
        raise UserError(
            f"{file} has {len(names)} bands ({listing(names, 20)}), counted from 0; there is no band {band}."
        )
    return int(band)


def _bands(known: Header, chosen: tuple[int, ...] | None, nodata: float | None) -> Bands:
    """What the first image says of all."""
    if nodata is not None and known.dtype != "float32":
        limits = np.iinfo(known.dtype)
        if nodata != int(nodata) or not limits.min <= nodata <= limits.max:
            raise UserError(
                f"data.options.nodata={nodata} is no value of {known.dtype} images, which hold whole numbers from"
                f" {limits.min} to {limits.max}: no pixel would be left out."
            )
    return Bands(known.names_of(chosen), known.dtype, nodata=known.nodata if nodata is None else float(nodata))


def _read_legend(layout: Layout, num_classes: int | None, splits: Sequence[str]) -> Legend:
    """Returns the legend of `root/classes.json`, or one of `num_classes` numbered classes."""
    file = layout.root / "classes.json"
    if file.is_file():
        return legend.read_legend(file, num_classes)
    if num_classes is None:
        raise UserError(_no_legend(layout, splits))
    return legend.numbered(num_classes)


def _no_legend(layout: Layout, splits: Sequence[str]) -> str:
    """Says what is missing and, from a few label files, what to write."""
    from jaxseg.data import pairs

    found: set[int] = set()
    for where in dict.fromkeys(layout.folders(split)[1] for split in splits):
        files = pairs.list_files(where, "labels", "", layout.label_suffix, Path(), "") if where.is_dir() else {}
        for file in sorted(files.values())[:10]:
            stored = readers.read_label(file)
            if stored.ndim == 2:
                found.update(np.unique(stored).tolist())
    seen = f" The first labels hold the values {listing(sorted(found), 12)}." if found else ""
    return (
        f"{layout.root}/classes.json does not exist, so the classes are not known. Write it, as {legend.FORM}, or give"
        f" their number with data.options.num_classes=N.{seen}"
    )
