"""DICOM images (.dcm) by pydicom, in the units that the file states (Hounsfield units of a CT)."""

import io
import math
import os
import zlib
from typing import Any

import numpy as np

from jaxseg.checks import Unreadable, UserError
from jaxseg.data.readers import stored
from jaxseg.data.readers.opening import REMEDY, missing, unreadable
from jaxseg.data.readers.stored import Header, StoredLabel, Window

_MOST = {"Rows": 65535, "Columns": 65535, "BitsAllocated": 64, "BitsStored": 64, "SamplesPerPixel": 4}


def header(path: str, start: bytes) -> Header:
    """Returns what a file holds; `start` are its first bytes."""
    data = _open(path, start)
    bands = int(data.get("SamplesPerPixel", 1))
    dtype = _dtype(data, path)
    gray = bands == 1 and dtype == "uint8"
    names = stored.RGB if gray or bands == 3 else stored.band_names(bands)
    size = int(data.Rows), int(data.Columns)
    return Header(
        _pages(data), *size, len(names), dtype, names, stored=("gray",) if gray else names, window=_window(data)
    )


def read(path: str, start: bytes, page: int, window: Window | None, bands: tuple[int, ...] | None) -> np.ndarray:
    """Returns the pixels of a frame, as `readers.read_image` describes.

    Rescale slope and intercept are applied: int16 where the results are whole numbers of 16 bits, else float32.
    MONOCHROME1, where large values are dark, is turned around, unless the file states units: those hold as they are.
    Colors are RGB, whatever they are stored as.
    """
    data = _open(path, start)
    values = _frame(data, page, path, start)
    rescales = _rescales(data, path)
    slope, intercept = rescales[page if len(rescales) > 1 else 0]
    image = values.reshape(*values.shape[:2], -1)
    if data.PhotometricInterpretation == "MONOCHROME1" and set(rescales) == {(1, 0)}:
        bits = int(data.BitsStored)
        image = (-1 if data.PixelRepresentation else 2**bits - 1) - image.astype(np.int64)
    if (slope, intercept) != (1, 0):
        image = image.astype(np.float64) * slope + intercept
    image = image.astype(_dtype(data, path))
    stored.check_bands(bands, stored.band_names(image.shape[2]), path)
    image = np.array(stored.choose(stored.crop(image, window), bands))
    return np.repeat(image, 3, 2) if bands is None and image.dtype == np.uint8 and image.shape[2] == 1 else image


def read_label(path: str, start: bytes, page: int, window: Window | None) -> StoredLabel:
    """Returns the values of a frame as stored."""
    values = _frame(_open(path, start), page, path, start)
    return StoredLabel(stored.to_label(stored.crop(values, window), path))


class _File(io.BufferedReader):
    """A file of which no more is read than there is: pydicom asks for as many bytes as an element says it has."""

    def __init__(self, path: str):
        super().__init__(io.FileIO(path))
        self._size = os.path.getsize(path)

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads `size` bytes at most; -1 and None are all."""
        return super().read(size if size is None or size < 0 else min(size, max(0, self._size - self.tell())))


def _open(path: str, start: bytes) -> Any:
    """All but the pixels; what is read of it are numbers that an image can have."""
    try:
        import pydicom
    except ImportError:
        raise missing(path, "medical", "pydicom") from None
    try:
        _check_unpacked(path)
        with _File(path) as file:
            data = pydicom.dcmread(file, stop_before_pixels=True)
        _ = data.Rows, data.Columns, data.BitsAllocated, data.BitsStored, data.PixelRepresentation
        _ = data.PhotometricInterpretation
        for name, most in _MOST.items():
            value = data.get(name, 1)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"its {name} is {value!r}, expected 1 to {most}")
        stored.check_pages(_pages(data), path)
        _rescales(data, path)
        return data
    except AttributeError as error:
        raise UserError(f"{path} is a DICOM file without an image ({error}). Remove it from the images.") from None
    except Exception as error:
        raise unreadable(path, error, start) from None


def _check_unpacked(path: str) -> None:
    """Raises a `UserError` for a deflated file that unfolds, before pydicom unpacks it, pixels or not."""
    import pydicom

    with _File(path) as file:
        pydicom.filereader.read_preamble(file, False)
        meta = pydicom.filereader.read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != 2)
        if not meta.get("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian).is_deflated:
            return
        packed, count, unpack = file.read(), 0, zlib.decompressobj(-zlib.MAX_WBITS)
        while packed:
            count += len(unpack.decompress(packed, 2**20))
            stored.check_memory(count, path)
            packed = unpack.unconsumed_tail


def _pages(data: Any) -> int:
    return int(data.get("NumberOfFrames", 1) or 1)


def _frame(data: Any, page: int, path: str, start: bytes) -> np.ndarray:
    """The values of one frame; of a file of hundreds the others are not read."""
    import pydicom

    pages = _pages(data)
    stored.check_page(page, pages, path)
    pixel = int(data.get("SamplesPerPixel", 1)) * -(-int(data.BitsAllocated) // 8)
    try:
        whole = data.file_meta.TransferSyntaxUID.is_deflated  # to be unpacked from its beginning
        stored.check_memory((pages if whole else 1) * int(data.Rows) * int(data.Columns) * pixel, path)
        with _File(path) as file:
            return pydicom.pixels.pixel_array(pydicom.dcmread(file) if whole else file, index=page)
    except Exception as error:
        if "plugin" in str(error) or "decompress" in str(error) or "missing dependencies" in str(error):
            raise UserError(
                f"{path} is compressed in a way that pydicom needs further software for ({error}): pip install"
                " pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
            ) from None
        raise unreadable(path, error, b"" if start[128:132] == b"DICM" else start) from None


def _rescales(data: Any, path: str) -> list[tuple[float, float]]:
    """(slope, intercept) of all frames, or of each where they differ: of the file, or of its functional groups."""
    if "RescaleSlope" in data or "RescaleIntercept" in data:
        return [_rescale(data)]
    for key in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        stated = [group.get("PixelValueTransformationSequence") for group in data.get(key) or []]
        if stated and all(stated):
            found = [_rescale(units[0]) for units in stated]
            if len(set(found)) == 1:
                return found[:1]
            if len(found) != _pages(data):
                raise Unreadable(f"{path} states units for {len(found)} frames and has {data.NumberOfFrames}.", REMEDY)
            return found
    return [(1.0, 0.0)]


def _rescale(data: Any) -> tuple[float, float]:
    found = float(data.get("RescaleSlope", 1) or 1), float(data.get("RescaleIntercept", 0) or 0)
    if not all(map(math.isfinite, found)):
        raise ValueError(f"its rescale slope and intercept are {found[0]} and {found[1]}")
    return found


def _dtype(data: Any, path: str) -> str:
    """The dtype that holds all values that the file could have, so that it is the same for all of a scanner's."""
    rescales = _rescales(data, path)
    bits, signed = int(data.BitsStored), bool(data.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if set(rescales) == {(1, 0)} and not signed and bits <= 16:
        return "uint8" if int(data.BitsAllocated) == 8 else "uint16"
    ends = [end * slope + intercept for slope, intercept in rescales for end in (low, high)]
    whole = all(number == int(number) for pair in rescales for number in pair)
    return "int16" if whole and min(ends) >= -(2**15) and max(ends) < 2**15 else "float32"


def _window(data: Any) -> tuple[float, float] | None:
    """The first of the windows that the file proposes, (low, high); a hint, so that what is none is no error."""
    try:
        center, width = data.get("WindowCenter"), data.get("WindowWidth")
        center, width = (float(v if not hasattr(v, "__len__") else v[0]) for v in (center, width))
    except (TypeError, ValueError, IndexError):
        return None
    found = center - width / 2, center + width / 2
    return found if all(map(math.isfinite, found)) else None
