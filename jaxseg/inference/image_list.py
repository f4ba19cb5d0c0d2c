"""The images that commands are given: found in folders and below them, named, and put into an order."""

import collections
import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from jaxseg.checks import UserError, printable
from jaxseg.data import readers
from jaxseg.data.pairs import walk
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.readers import IMAGE_SUFFIXES, opening
from jaxseg.inference.batches import PROGRAMS, Size, find_grid


@dataclasses.dataclass(frozen=True)
class Found:
    """A file that was named, or found below a folder that was named.

    Args:
      file: its path.
      name: its path below the folder, with which it is written below another.
    """

    file: Path
    name: PurePath


@dataclasses.dataclass(frozen=True)
class ImagePage:
    """An image to predict.

    Args:
      file: that holds it.
      page: of the file, None if it holds one image.
      stem: the path of what is written, without `_label.png` and the like.
    """

    file: Path
    page: int | None
    stem: Path


class Failure(NamedTuple):
    """What could not be read or written, and why."""

    file: str
    reason: str

    def __str__(self) -> str:
        line = f"{self.file}: {self.reason.removeprefix(self.file).lstrip(' :,')}"
        return printable(line).replace("\n", "\\n")  # one line, whatever the file is called


def find_images(paths: Sequence[str]) -> list[Path]:
    """Returns the files named, and the images in the folders named, in order and once each; not hidden ones."""
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if opening.is_folder(path):
            inside = sorted(file for file in path.iterdir() if _is_image(file) and not file.name.startswith("."))
            if not inside:
                raise _no_image(path)
            found.update(dict.fromkeys(inside))
        else:
            found[_existing(path)] = None
    return list(found)


def find_below(paths: Sequence[str], out: Path) -> tuple[list[Found], list[Failure]]:
    """Returns the files named, and the images in and below the folders named, in order and once each.

    Hidden files and folders are left out, and what lies below `out`. Links are followed; one that leads nowhere is
    found as well, so that it is missed by its name when it is read. Of one folder the names begin below it, of several
    below the folder that holds them all.

    Args:
      paths: of files and folders.
      out: the folder of the outputs.

    Returns:
      The files, and the folders that may not be listed.
    """
    folders = [os.path.abspath(path) for path in paths if opening.is_folder(path)]
    above = os.path.commonpath(folders) if folders else ""
    ours = os.path.realpath(out)
    failures: list[Failure] = []

    def note(error: OSError) -> None:
        failures.append(Failure(str(error.filename), f"the folder may not be listed: {error.strerror}"))

    found: dict[str, Found] = {}
    for path in paths:
        if not opening.is_folder(path):
            found.setdefault(os.path.abspath(path), Found(_existing(Path(path)), PurePath(Path(path).name)))
            continue
        inside = [file for file in walk(Path(path), note) if _is_image(file)]
        if ours.startswith(os.path.join(os.path.realpath(path), "")):  # outputs among the images
            inside = [file for file in inside if not _lies_in(file, ours)]
        if not inside and not failures:
            raise _no_image(Path(path))
        for file in inside:
            place = os.path.abspath(file)
            found.setdefault(place, Found(file, PurePath(os.path.relpath(place, above))))
    return list(found.values()), failures


def name_outputs(files: Iterable[Found], out: Path, *, values: bool = False) -> list[ImagePage]:
    """Returns the images of the files, every page of a stack, and where their outputs go.

    A file's are written below `out` as its name says, without its extension; of files that differ in that alone, such
    as a.jpg and a.png in one folder, with it.

    Raises a `UserError` if two files have one name, or an output would replace an input.

    Args:
      files: that hold the images.
      out: the folder of the outputs.
      values: whether values are written, see `jaxseg.inference.files.predict_file`.
    """
    files = list(files)
    alike = collections.Counter(_without_suffix(each.name) for each in files)
    endings = (*(("_label.png", "_overlay.png", "_uncertainty.png") if not values else (".png",)), ".geojson")
    endings += (".tif", ".nii.gz") if values else ("_label.tif", "_label.nii.gz")
    folders: dict[Path, str] = {}  # their true paths, each looked up once

    def real(path: Path) -> str:
        if path.parent not in folders:
            folders[path.parent] = os.path.realpath(path.parent)
        return os.path.join(folders[path.parent], path.name)

    inputs = {real(each.file) for each in files}
    named: dict[Path, ImagePage] = {}
    for each in files:
        short = _without_suffix(each.name)
        for page, name in _pages(each.file, each.name.name if alike[short] > 1 else short.name):
            stem = out / each.name.parent / name
            if stem in named:
                raise UserError(
                    f"{named[stem].file} and {each.file} would both be written to {stem}{endings[0]}. Name the folder"
                    " that holds both, whose folders are kept, or predict them into different --out folders."
                )
            image = ImagePage(each.file, page, stem)
            for ending in endings:
                output = volume_stem(image) if ending.endswith(".nii.gz") else stem
                output = output.with_name(output.name + ending)
                if real(output) in inputs:
                    raise UserError(f"{output} is one of the images and would be overwritten. Choose another --out.")
            named[stem] = image
    return list(named.values())


def volume_stem(page: ImagePage) -> Path:
    """Returns the path of what is written of all pages of a file together, without its ending.

    >>> volume_stem(ImagePage(Path("in/ct.nii.gz"), 7, Path("out/ct[07]"))).name
    'ct'
    """
    return page.stem if page.page is None else page.stem.with_name(page.stem.name.rpartition("[")[0])


def read_sizes(pages: Iterable[ImagePage]) -> dict[ImagePage, Size | None]:
    """Returns the (height, width) of each image as its file's header says it, None where there is none to be read."""
    return {page: _size(page) for page in pages}


def sort_by_grid(sizes: Mapping[ImagePage, Size | None], preprocessing: Preprocessing) -> list[ImagePage]:
    """Returns the images with those of one padded size after each other, so that each is compiled for once.

    The largest come first, which need the most memory: if there is too little, it is known at once. What does not say
    its size comes before them; why is said when it is read.
    """
    grids = {page: find_grid(size, preprocessing) for page, size in sizes.items() if size is not None}
    areas = {page: (math.prod(grid.canvas), grid) for page, grid in grids.items()}
    return [page for page in sizes if page not in grids] + sorted(areas, key=areas.__getitem__, reverse=True)


def say_programs(sizes: Iterable[Size], preprocessing: Preprocessing) -> str:
    """Returns what to say where images of these sizes have more than `PROGRAMS` padded sizes; else "".

    >>> p = Preprocessing((0,) * 3, (1,) * 3, bucket=16)
    >>> say_programs([(h, w) for h in range(40, 140) for w in range(40, 140)], p)
    '49 padded sizes, each compiled once. --bucket 32 makes 16 of them, with more padding.'
    >>> say_programs([(480, 640)] * 1000, p)
    ''
    """
    sizes = set(sizes)

    def count(bucket: int) -> int:
        seen = preprocessing.coarser(bucket)
        return len({find_grid(size, seen) for size in sizes})

    found = count(preprocessing.bucket)
    if found <= PROGRAMS:
        return ""
    bucket = next(b for b in (preprocessing.bucket << n for n in range(1, 32)) if count(b) <= PROGRAMS)
    return (
        f"{found} padded sizes, each compiled once. --bucket {bucket} makes {count(bucket)} of them, with more padding."
    )


def _size(page: ImagePage) -> Size | None:
    try:
        known = readers.header(page.file)
    except (UserError, OSError):
        return None
    return known.height, known.width


def _lies_in(file: Path, folder: str) -> bool:
    return os.path.join(os.path.realpath(file.parent), "").startswith(os.path.join(folder, ""))


def _is_image(file: Path) -> bool:
    return opening.suffix(file) in IMAGE_SUFFIXES


def _no_image(folder: Path) -> UserError:
    return UserError(f"The folder {folder} holds no image ({' '.join(IMAGE_SUFFIXES)}).")


def _existing(path: Path) -> Path:
    if not os.path.lexists(path):
        raise UserError(f"{path} does not exist. Give image files or folders of them.")
    return path


def _without_suffix(name: PurePath) -> PurePath:
    return name.with_name(opening.stem(name) or name.name)


def _pages(file: Path, name: str) -> list[tuple[int | None, str]]:
    """The page and the name of every image of a file; what does not open is one image, and says why when it is read."""
    try:
        count = readers.pages(file)
    except (UserError, OSError):
        count = 1
    if count == 1:
        return [(None, name)]
    return [(page, readers.page_name(name, page, count)) for page in range(count)]
