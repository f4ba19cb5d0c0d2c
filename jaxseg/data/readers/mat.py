"""Labels in MATLAB's files (.mat), as SBD stores them: GTcls.Segmentation, class ids.

Of the format's level 5 ("MAT-File Format", MathWorks) this reads just these arrays. SciPy reads all of it, but sets
aside what a file claims to hold before it knows whether it does.
"""

import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxseg.checks import UserError
from jaxseg.data.readers import stored
from jaxseg.data.readers.opening import unreadable
from jaxseg.data.readers.stored import RATIO, Header, StoredLabel, Window

_MATRIX, _COMPRESSED = 14, 15
_STRUCT = 2  # a class of matrices; those from _DOUBLE to _UINT64 are numbers
_DOUBLE, _UINT64 = 6, 15
_SMALL = 2**26  # bytes that what every file has compressed may take: a label of 8 bytes a pixel, of 8 megapixels
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}

_Matrix = tuple[int, tuple[int, ...], str, Iterator[tuple[int, memoryview]]]  # class, shape, name, what follows


def header(path: str, start: bytes) -> Header:
    """Returns what a file holds; `start` are its first bytes."""
    height, width = _segmentation(path, start).shape
    return Header(1, height, width, 1, "uint8", ("gray",), stored=("gray",))


def read(path: str, start: bytes, page: int, window: Window | None, bands: tuple[int, ...] | None) -> np.ndarray:
    """Raises a `UserError`: these files hold no images."""
    raise UserError(f"{path} is a file of MATLAB, of which labels are read (SBD), but no images. Save it as PNG.")


def read_label(path: str, start: bytes, page: int, window: Window | None) -> StoredLabel:
    """Returns the class ids."""
    stored.check_page(page, 1, path)
    return StoredLabel(stored.to_label(stored.crop(_segmentation(path, start), window), path))


def _segmentation(path: str, start: bytes) -> np.ndarray:
    try:
        if start[124:126] == b"\0\2" or start.startswith(b"\x89HDF"):
            raise UserError(f"{path} is an HDF5 file, MATLAB's level 7.3. Save it with MATLAB's option -v7.")
        if start[126:128] not in (b"IM", b"MI"):
            raise ValueError("no file of MATLAB's level 5")
        values = _find(path, "<" if start[126:128] == b"IM" else ">")
    except Exception as error:
        raise unreadable(path, error, b"" if start.startswith(b"MATLAB") else start) from None
    if values is None:
        raise UserError(f"{path} holds no GTcls.Segmentation. Expected a file of SBD's folder cls.")
    if values.ndim != 2 or not values.size:
        raise UserError(f"{path}: GTcls.Segmentation has the shape {values.shape}, expected height x width.")
    return values


def _find(path: str, order: str) -> np.ndarray | None:
    """The array GTcls.Segmentation of a file in this byte order, None if there is none."""
    for kind, data in _elements(memoryview(Path(path).read_bytes())[128:], order):
        if kind == _COMPRESSED:
            kind, data = next(_elements(memoryview(_unpack(data, path)), order))
        if kind != _MATRIX:
            continue
        kind, shape, name, parts = _matrix(data, order)
        if name == "GTcls" and kind == _STRUCT and math.prod(shape) == 1:
            (_, length), (_, names) = next(parts), next(parts)
            width = int(np.frombuffer(length, f"{order}i4", 1)[0])
            fields = [bytes(names[i : i + width]).split(b"\0")[0] for i in range(0, len(names), max(width, 1))]
            for field, (_, value) in zip(fields, parts, strict=False):
                if field == b"Segmentation":
                    return _numbers(value, order)
    return None


def _numbers(data: memoryview, order: str) -> np.ndarray | None:
    kind, shape, _, parts = _matrix(data, order)
    if not _DOUBLE <= kind <= _UINT64:
        return None
    kind, values = next(parts)
    return np.frombuffer(values, np.dtype(_NUMBERS[kind]).newbyteorder(order)).reshape(shape, order="F")


def _matrix(data: memoryview, order: str) -> _Matrix:
    parts = _elements(data, order)
    (_, flags), (_, shape), (_, name) = next(parts), next(parts), next(parts)
    kind = int(np.frombuffer(flags, f"{order}u4", 1)[0]) & 255
    return kind, tuple(np.frombuffer(shape, f"{order}i4").tolist()), bytes(name).decode("latin-1"), parts


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """The elements that stand one after another in `data`, each as its type and its content."""
    place = 0
    while place < len(data):
        kind, size = np.frombuffer(data, f"{order}u4", 2, place).tolist()
        if kind >> 16:  # up to four bytes stand in the place of the size
            yield kind & 0xFFFF, data[place + 4 : place + 4 + (kind >> 16)]
            place += 8
            continue
        if size > len(data) - place - 8:
            raise ValueError(f"an element of {size} bytes is cut short")
        yield kind, data[place + 8 : place + 8 + size]
        place += 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)


def _unpack(data: memoryview, path: str) -> bytes:
    most = max(_SMALL, RATIO * os.path.getsize(path))
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(data, most)
    if not unpacker.eof:
        raise ValueError(f"an element is cut short, or unpacks to more than {most / 1e6:.0f} MB")
    return unpacked
