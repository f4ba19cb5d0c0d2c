"""What a file holds, and how its numbers become those of a record."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxseg.checks import TooLarge, Unreadable, UserError

RGB = ("red", "green", "blue")
DTYPES = ("uint8", "uint16", "int16", "float32")
LARGEST = 2**30  # pixels of an image; a larger one is refused rather than filling the memory
SMALL = 3 * 2**26  # bytes that every file may take: RGB of 67 megapixels, for which libraries take five times that
PAGES = 2**16  # that every file may say it holds; a larger one as many as it has bytes
RATIO = 512  # times its size that a larger one may take; what deflate makes of blank pixels is a thousandth

Window = tuple[int, int, int, int]  # top, left, height, width; pixels of the upright image


@dataclasses.dataclass(frozen=True)
class Header:
    """What is known of a file without reading its pixels.

    Args:
      pages: images of one size in the file; each is a record.
      height: of a page, upright, pixels.
      width: of a page, upright, pixels.
      bands: of the array that `read_image` returns.
      dtype: of that array.
      names: of those bands.
      nodata: the value of pixels that hold nothing, where the file says so.
      turned: whether the file says (EXIF, TIFF's Orientation) that its rows and columns are to be turned or mirrored,
        which reading does.
      stored: the names of the bands as stored, which the argument `bands` of `read_image` counts. They differ from
        `names` where gray or palette files of 8 bits become RGB, or transparency is dropped.
      window: (low, high), the range of values that the file proposes to show (DICOM), a hint.
      affine: 4x4, from (row, column, page, 1) to millimeters in the patient, where a volume says so (NIfTI).
      masked: whether the file has a mask of its own (GDAL's internal one), which reading does not apply.
      scaling: (scale, offset) of each stored band where the file says (GDAL) that a stored value v stands for
        scale v + offset, which reading does not apply; empty where it says nothing of the kind.
    """

    pages: int
    height: int
    width: int
    bands: int
    dtype: str
    names: tuple[str, ...]
    nodata: float | None = None
    turned: bool = False
    stored: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    affine: tuple[tuple[float, ...], ...] | None = None
    masked: bool = False
    scaling: tuple[tuple[float, float], ...] = ()

    def names_of(self, chosen: tuple[int, ...] | None) -> tuple[str, ...]:
        """Returns the names of the bands that are read where these stored ones are chosen, None for all."""
        return self.names if chosen is None else tuple((self.stored or self.names)[i] for i in chosen)

    def scaling_of(self, chosen: tuple[int, ...] | None) -> tuple[tuple[float, float], ...]:
        """Returns the scaling of the bands that are read, likewise; empty if it changes none of them."""
        if chosen is None or not self.scaling:
            return self.scaling
        return scaling(*zip(*(self.scaling[i] for i in chosen), strict=True))


@dataclasses.dataclass(frozen=True)
class StoredLabel:
    """The values in a label file: numbers[h, w], or uint8[h, w, 3] if it is coded in colors.

    `palette`, uint8[n, 3], has the color of each value, where the file says it.
    """

    values: np.ndarray
    palette: np.ndarray | None = None


def scaling(scales: Sequence[float], offsets: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Returns (scale, offset) of each band; empty if these change nothing.

    >>> scaling([1e-4, 1e-4], [0, -0.1]), scaling([1, 1], [0, 0])
    (((0.0001, 0.0), (0.0001, -0.1)), ())
    """
    found = tuple((float(scale), float(offset)) for scale, offset in zip(scales, offsets, strict=True))
    return found if set(found) != {(1.0, 0.0)} else ()


def band_names(count: int) -> tuple[str, ...]:
    """Returns the names of bands of which nothing is known.

    >>> band_names(2)
    ('band0', 'band1')
    """
    return ("gray",) if count == 1 else tuple(f"band{i}" for i in range(count))


def is_stated(names: Sequence[str]) -> bool:
    """Returns whether a file says what its bands are, rather than how many there are.

    >>> is_stated(("band0", "band1")), is_stated(("B4", "B3"))
    (False, True)
    """
    return tuple(names) != band_names(len(names))


def record_type(dtype: Any, path: str) -> str:
    """Returns the dtype, of the four that records have, that holds the values of `dtype`.

    Booleans become uint8, bytes with a sign int16, all other numbers float32: those of 64 bits are rounded to it.

    >>> record_type("int8", "a.npy"), record_type(">f8", "a.npy"), record_type("uint32", "a.npy")
    ('int16', 'float32', 'float32')
    """
    dtype = np.dtype(dtype)
    if dtype.name in DTYPES:
        return dtype.name
    if dtype.kind not in "buif":
        raise UserError(f"{path} holds values of the type {dtype}, expected whole or floating point numbers.")
    return {"bool": "uint8", "int8": "int16"}.get(dtype.name, "float32")


def to_record(values: np.ndarray, path: str) -> np.ndarray:
    """Returns the pixels [h, w, c] as the type of records that holds them, in memory, in native byte order."""
    dtype = record_type(values.dtype, path)
    whole = dtype == "float32" and values.dtype.kind in "ui" and values.size
    if whole and max(int(values.max()), -int(values.min())) > 2**24:
        raise UserError(
            f"{path} holds {values.dtype} with values up to {values.max()}; records hold 16 bits or float32, which is"
            f" exact up to {2**24}. Rescale the values."
        )
    return np.array(values, dtype)


def to_label(values: np.ndarray, path: str) -> np.ndarray:
    """Returns values of a label in memory, whole numbers: floating point ones are checked to be whole."""
    if values.dtype.kind in "bui":
        _check_label_range(values, np.iinfo(np.int64).max, path)
        dtype = np.uint8 if values.dtype == bool else values.dtype.newbyteorder("=")
        return np.array(values, dtype)
    if values.dtype.kind != "f":
        raise UserError(f"{path} holds values of the type {values.dtype}. Labels are whole numbers.")
    whole = np.rint(values)
    if not np.array_equal(whole, values):
        wrong = values[~(whole == values)].flat[0]
        if np.isnan(wrong):
            raise UserError(
                f"{path} holds nan, which is no label. Where pixels have none, store the ignore label (255) or another"
                " number, and list that in data.label_ignore."
            )
        raise UserError(
            f"{path} holds the number {wrong}. Labels are whole numbers: if it was resized, resize it with nearest"
            " neighbors; if it holds probabilities, threshold them."
        )
    _check_label_range(whole, np.iinfo(np.int32).max, path)
    return whole.astype(np.int32)


def _check_label_range(values: np.ndarray, largest: int, path: str) -> None:
    """Raises a `UserError` for values that would become others where class ids are computed with."""
    if values.dtype.itemsize < 8 and values.dtype.kind != "f":
        return
    for found in (values.max(initial=0), values.min(initial=0)):
        if abs(found.item()) > largest:
            raise UserError(f"{path} holds the number {found}. Labels are whole numbers from -{largest} to {largest}.")


def crop(values: np.ndarray, window: Window | None) -> np.ndarray:
    """Returns the window of an array [h, w, …], all of it if None."""
    if window is None:
        return values
    top, left, height, width = window
    check_window(window, values.shape[:2])
    return values[top : top + height, left : left + width]


class WindowError(ValueError):
    """A window that is not inside the image: a mistake of the program, not of the file."""


def check_window(window: Window, size: tuple[int, ...]) -> None:
    """Raises a `WindowError` if the window is not inside an image of `size`, (height, width)."""
    top, left, height, width = window
    if min(top, left) < 0 or min(height, width) < 1 or top + height > size[0] or left + width > size[1]:
        raise WindowError(f"The window {window} (top, left, height, width) leaves the image of {size[0]}x{size[1]}.")


def check_page(page: int, pages: int, path: str) -> None:
    """Raises a `UserError` if there is no such page."""
    if not 0 <= page < pages:
        raise UserError(f"{path} holds {pages} pages, counted from 0; there is no page {page}.")


def check_pages(pages: int, path: str, held: int | None = None) -> None:
    """Raises a `UserError` for a file that says that it holds far more pages than it can: each is listed.

    Args:
      pages: that the file says it holds.
      path: of the file.
      held: bytes that it has; None looks.
    """
    held = os.path.getsize(path) if held is None else held
    if not 1 <= pages <= max(PAGES, held):
        raise Unreadable(f"{path} has {held} bytes and says that it holds {pages} pages. Copy it again.")


def check_size(width: int, height: int, path: str, pixel: int = 3) -> None:
    """Raises a `UserError` for an image of more than a gigapixel, or for one that unpacks to far more than its file.

    Args:
      width: in pixels.
      height: in pixels.
      path: of the file.
      pixel: bytes of a pixel in memory.
    """
    check_pixels(width, height, path)
    check_memory(width * height * pixel, path)


def check_pixels(width: int, height: int, path: str) -> None:
    """Raises a `UserError` for an image of more than a gigapixel, that is to be read whole."""
    if width * height > LARGEST:
        raise TooLarge(
            f"{path} is {width}x{height} (width x height), {width * height / 1e6:.0f} megapixels; whole images are read"
            f" up to {LARGEST / 1e6:.0f}. Cut it into tiles, or save it as a tiled TIFF, of which windows are read."
        )


def check_memory(needed: int, path: str, held: int | None = None) -> None:
    """Raises a `UserError` for a small file that would take much memory, as those take that are made to fill it.

    Args:
      needed: bytes of what the file says that it holds.
      path: of the file.
      held: bytes that it has; None looks.
    """
    held = os.path.getsize(path) if held is None else held
    if needed > max(SMALL, RATIO * held):
        raise Unreadable(
            f"{path} has {held} bytes and says that it holds {needed / 1e6:.0f} MB, {needed // max(held, 1)} times as"
            " much: far more than images and labels do. If it is one all the same, cut it into tiles."
        )


def choose(values: np.ndarray, bands: tuple[int, ...] | None) -> np.ndarray:
    """Returns the named bands of an array [h, w, c], all if None."""
    return values if bands is None else values[..., list(bands)]


def check_bands(bands: tuple[int, ...] | None, stored: tuple[str, ...], path: str) -> None:
    """Raises a `UserError` if a file does not have the bands that are asked for."""
    if bands is not None and any(not 0 <= b < len(stored) for b in bands):
        raise UserError(
            f"{path} has {len(stored)} bands ({', '.join(stored)}), counted from 0; bands={bands} asks for others."
        )
