"""What the published data sets share: where their files must be, and the table of the values that they store.

A set `jaxseg/data/NAME.py` checks the folder with `locate`, has a `Table`, and returns a `Dataset` whose splits are
`Folder`s, made by `dataset`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxseg.checks import UserError, listing
from jaxseg.data.bands import RGB
from jaxseg.data.dataset import Dataset
from jaxseg.data.folder import Files, Folder
from jaxseg.data.labels import INTERPOLATED, count_values, look_interpolated, replace_values
from jaxseg.data.name_lists import read_lines
from jaxseg.data.pairs import Pair
from jaxseg.data.readers import StoredLabel

Color = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Table:
    """What the values in the label files of a published set stand for.

    Args:
      name: of the set, in messages.
      classes: their names, in the order of their ids.
      palette: their colors, 0..255.
      values: of each class, the stored values that stand for it; the first is what predictions are written with.
      ignored: the stored values that are ignored.
      colors: whether `values` and `ignored` are colors, 0xRRGGBB, of files coded in them.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    values: tuple[tuple[int, ...], ...]
    ignored: tuple[int, ...] = ()
    colors: bool = False

    def read(self, stored: StoredLabel, file: str) -> np.ndarray:
        """Returns the class ids of what a file holds, uint8[h, w], 255 where ignored."""
        values = stored.values
        if (values.ndim == 3) != self.colors:
            what = "is coded in colors" if values.ndim == 3 else "holds one band"
            expected = "colors" if self.colors else "one band of numbers"
            raise UserError(f"{file} {what}. The labels of {self.name} are {expected}: are these its own files?")
        if self.colors:
            values = np.dot(values.astype(np.uint32), np.array((1 << 16, 1 << 8, 1), np.uint32))
        found, counts = count_values(values)
        known = {value: i for i, of_class in enumerate(self.values) for value in of_class}
        known |= dict.fromkeys(self.ignored, 255)
        unlisted = [value for value in found.tolist() if value not in known]
        if unlisted:
            kind = "colors" if self.colors else "values"
            shown = [f"({v >> 16}, {v >> 8 & 255}, {v & 255})" for v in unlisted] if self.colors else unlisted
            hint = f" {INTERPOLATED}" if look_interpolated(found, counts, unlisted) else ""
            raise UserError(
                f"{file} holds the {kind} {listing(shown)}, which mean nothing in {self.name}. Expected its own files,"
                f" as they are downloaded.{hint}"
            )
        return replace_values(values, found, np.array([known[v] for v in found.tolist()], np.uint8))


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of a split that a function lists, at the first use; `Folder` takes it as it takes a `Layout`.

    Args:
      function: of the name of the split; one that can be pickled.
    """

    function: Callable[[str], Sequence[Pair]]

    def pairs(self, split: str) -> tuple[Pair, ...]:
        """Returns the records of a split."""
        return tuple(self.function(split))


def dataset(name: str, table: Table, splits: Mapping[str, tuple[Files, str]]) -> Dataset:
    """Returns the data set of a table; `splits` has the files of each split, and what they call the split."""
    folders = {split: Folder(files, called, table, RGB) for split, (files, called) in splits.items()}
    values = None if table.colors else table.values
    return Dataset(name, table.classes, table.palette, folders, 255, RGB, values)


def locate(root: str, name: str, parts: Sequence[str], *, inside: Sequence[str] = ()) -> Path:
    """Returns the folder that holds all `parts`: `root`, or one of the folders `inside` it.

    Args:
      root: what the user said.
      name: of the set, in messages.
      parts: paths that the set has, relative to its folder.
      inside: folders below `root` that archives may have made, "VOCdevkit/VOC2012".
    """
    path = Path(root).expanduser()
    if not path.is_dir():
        raise UserError(f"Data folder '{root}' does not exist. Set data.root to the folder of {name}.")
    for folder in (path, *(path / below for below in inside)):
        if all((folder / part).exists() for part in parts):
            return folder
    lacking = [part for part in parts if not (path / part).exists()]
    found = listing(sorted(p.name for p in path.iterdir() if not p.name.startswith(".")), 12) or "nothing"
    raise UserError(
        f"'{root}' is not {name} as it is downloaded: it has no {' and no '.join(lacking)}; it holds {found}. Expected"
        f" {', '.join(parts)} (docs/data.md says where they come from)."
    )


def names_in(file: Path) -> list[str]:
    """Returns the first word of every line of a list, without comments (#)."""
    if not file.is_file():
        raise UserError(f"The list {file} does not exist. Unpack the whole archive again.")
    names = [line.split()[0] for line in read_lines(file) if line and not line.startswith("#")]
    if not names:
        raise UserError(f"The list {file} names nothing. Unpack the whole archive again.")
    return names


def colors_of(text: str) -> tuple[Color, ...]:
    """Returns the colors of a text of hexadecimal numbers.

    >>> colors_of("804080 f423e8")
    ((128, 64, 128), (244, 35, 232))
    """
    return tuple((int(c[:2], 16), int(c[2:4], 16), int(c[4:], 16)) for c in text.split())


def names_of(text: str) -> tuple[str, ...]:
    """Returns the names in a text, between commas and across lines.

    >>> names_of('''road, traffic light,
    ... car''')
    ('road', 'traffic light', 'car')
    """
    return tuple(name.strip() for name in " ".join(text.split()).split(","))
