"""The strips and tiles of a TIFF page: only those that a window needs are read and unpacked.

tifffile needs imagecodecs, which is large, for LZW, Zstandard and the floating point predictor; they are common, so
they are unpacked here.
"""

import lzma
import math
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg.data.readers import pillow
from jaxseg.data.readers.stored import RATIO, SMALL, Window

if TYPE_CHECKING:
    import tifffile

LZW, DEFLATE, OLD_DEFLATE, LZMA, ZSTD = 5, 8, 32946, 34925, 50000


class Unsupported(Exception):
    """A compression that nothing installed can unpack."""


def read(page: Any, key: "tifffile.TiffPage", box: Window, bands: tuple[int, ...] | None) -> np.ndarray:
    """Returns a window of a page, as stored, [h, w, c].

    Args:
      page: whose strips or tiles are read, a TiffPage or TiffFrame.
      key: the page that has the tags, the first of those alike.
      box: the window, inside the image.
      bands: those wanted, in order; all if None.
    """
    planes, _, length, width, contiguous = key.shaped
    wanted = tuple(range(planes * contiguous)) if bands is None else bands
    top, left, height, columns = box
    if key.is_memmappable and page.dataoffsets and page.is_contiguous:
        dtype = key.dtype.newbyteorder(key.parent.byteorder)
        block = np.memmap(key.parent.filehandle.path, dtype, "r", page.dataoffsets[0], key.shaped)
        part = np.moveaxis(block[:, 0, top : top + height, left : left + columns], 0, 2)
        return part.reshape(height, columns, -1)[..., list(wanted)] if bands else part.reshape(height, columns, -1)
    rows, across = (key.tilelength, key.tilewidth) if key.is_tiled else (min(key.rowsperstrip, length), width)
    down, over = -(-length // rows), -(-width // across)
    out = np.zeros((height, columns, len(wanted)), key.dtype)
    if key.nodata:
        out[:] = np.asarray(key.nodata).astype(key.dtype)
    used = sorted({b // contiguous for b in wanted})
    for plane in used:
        places = [i for i, b in enumerate(wanted) if b // contiguous == plane]
        within = [wanted[i] % contiguous for i in places]
        for y in range(top // rows, -(-(top + height) // rows)):
            for x in range(left // across, -(-(left + columns) // across)):
                segment = _segment(page, key, (plane * down + y) * over + x)
                if segment is None:  # a sparse file: nothing is stored there
                    continue
                high, wide = min(rows, length - y * rows), min(across, width - x * across)
                y0, y1 = max(top, y * rows), min(top + height, y * rows + high)
                x0, x1 = max(left, x * across), min(left + columns, x * across + wide)
                part = segment[y0 - y * rows : y1 - y * rows, x0 - x * across : x1 - x * across]
                place = out[y0 - top : y1 - top, x0 - left : x1 - left]
                if within == list(range(contiguous)) and len(places) == len(wanted):
                    place[:] = part
                else:
                    place[..., places] = part[..., within]
    return out


def _segment(page: Any, key: "tifffile.TiffPage", index: int) -> np.ndarray | None:
    """The strip or tile of a number, [rows, columns, samples] of its full size."""
    size = page.databytecounts[index]
    if not size:
        return None
    file = key.parent.filehandle
    with file.lock:
        file.seek(page.dataoffsets[index])
        data = file.read(min(size, file.size))  # what a file claims would be set aside
    if key.is_tiled:
        rows, width = key.tilelength, key.tilewidth
    else:
        per_plane = -(-key.imagelength // key.rowsperstrip)
        first = index % per_plane * key.rowsperstrip
        rows, width = min(key.rowsperstrip, key.imagelength - first), key.imagewidth
    shape = (rows, width, key.shaped[4])
    raw = _unpack(data, key, shape)
    if raw is not None:
        dtype = key.dtype.newbyteorder(key.parent.byteorder)
        return _unpredict(np.frombuffer(raw, np.uint8, rows * width * shape[2] * dtype.itemsize), dtype, key, shape)
    tables = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader} if key.compression in (6, 7) else {}
    try:
        decoded = key.decode(data, index, _fullsize=key.is_tiled, **tables)[0]
    except Exception as error:
        if "imagecodecs" in str(error) or "not supported" in str(error) or "compression" in str(error).lower():
            raise Unsupported(getattr(key.compression, "name", key.compression)) from None
        raise
    return None if decoded is None else decoded[0]


def _unpack(data: bytes, key: "tifffile.TiffPage", shape: tuple[int, int, int]) -> bytes | None:
    """The bytes of a segment, None where that is left to tifffile."""
    expected = math.prod(shape) * key.dtype.itemsize if key.dtype else 0
    if expected > max(SMALL, 2 * RATIO * len(data)):
        raise ValueError(f"a segment of {len(data)} bytes says that it holds {expected}")
    plain = key.bitspersample in (8, 16, 32, 64) and key.fillorder == 1 and key.dtype.kind in "uif"
    if not plain or key.predictor not in (1, 2, 3):
        return None
    if key.compression == 1:
        return data
    if key.compression in (DEFLATE, OLD_DEFLATE):
        return _unfold(zlib.decompressobj(), data, expected)
    if key.compression == LZMA:
        return _unfold(lzma.LZMADecompressor(memlimit=SMALL), data, expected)
    if key.compression in (LZW, ZSTD):
        return pillow.decompress(data, int(key.compression), shape[0], shape[1] * shape[2] * key.dtype.itemsize)
    return None


def _unfold(unpacker: Any, data: bytes, expected: int) -> bytes:
    """All that a decompressor makes of a segment, whose end has its checksum; some last strips have rows too many."""
    unfolded = unpacker.decompress(data, max(2 * expected, 2**26))
    if not unpacker.eof:
        raise ValueError(f"a segment of {len(data)} bytes is cut short, or holds far more than the {expected} expected")
    return unfolded


def _unpredict(raw: np.ndarray, dtype: np.dtype, key: "tifffile.TiffPage", shape: tuple[int, int, int]) -> np.ndarray:
    """Undoes the predictor (TIFF 6.0, section 14; Adobe's technical note 3): values are stored as differences."""
    if key.predictor == 3:
        rows, width, samples = shape
        deltas = raw.reshape(rows, -1, samples)
        planes = np.cumsum(deltas, axis=1, dtype=np.uint8).reshape(rows, dtype.itemsize, width * samples)
        return np.ascontiguousarray(planes.swapaxes(1, 2)).view(dtype.newbyteorder(">")).reshape(shape)
    values = raw.view(dtype).reshape(shape)
    if key.predictor == 2:
        whole = np.dtype(f"u{dtype.itemsize}")
        bits = values.view(whole.newbyteorder(dtype.byteorder)).astype(whole)
        return np.cumsum(bits, axis=1, dtype=whole).view(dtype.newbyteorder("="))
    return values
