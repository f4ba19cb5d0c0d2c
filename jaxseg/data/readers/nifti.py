"""NIfTI volumes (.nii, .nii.gz) by nibabel: the slices along the third axis are pages, a fourth axis are bands.

The first axis of the file is the height and the second the width of a page, as stored: nothing is turned.
"""

import functools
import gzip
import math
import os
import struct
from typing import Any

import numpy as np

from jaxseg.checks import Unreadable, UserError
from jaxseg.data.readers import stored
from jaxseg.data.readers.opening import REMEDY, missing, unreadable
from jaxseg.data.readers.stored import Header, StoredLabel, Window

_BEGINNING = 176  # bytes of a header, in which it says where its voxels begin


def header(path: str, start: bytes) -> Header:
    """Returns what a file holds; `start` are its first bytes."""
    volume = _open(path, start)
    height, width, pages, bands = (*volume.shape, 1, 1)[:4]
    dtype = "float32" if _is_scaled(volume) else stored.record_type(volume.get_data_dtype(), path)
    gray = dtype == "uint8" and bands == 1
    names = stored.RGB if gray else stored.band_names(bands)
    stated = ("gray",) if gray else names
    return Header(pages, height, width, len(names), dtype, names, stored=stated, affine=_affine(volume))


def read(path: str, start: bytes, page: int, window: Window | None, bands: tuple[int, ...] | None) -> np.ndarray:
    """Returns the pixels of a slice, as `readers.read_image` describes: scaled where the file has a slope."""
    values = _slice(path, start, page, window)
    values = values[..., None] if values.ndim == 2 else values
    stored.check_bands(bands, stored.band_names(values.shape[2]), path)
    image = stored.to_record(stored.choose(values, bands), path)
    return np.repeat(image, 3, 2) if bands is None and image.dtype == np.uint8 and image.shape[2] == 1 else image


def read_label(path: str, start: bytes, page: int, window: Window | None) -> StoredLabel:
    """Returns the values of a slice."""
    values = _slice(path, start, page, window)
    if values.ndim > 2 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim > 2:
        raise UserError(f"{path} has {values.shape[2]} values a voxel. A label has one: height x width x slices.")
    return StoredLabel(stored.to_label(values, path))


def _slice(path: str, start: bytes, page: int, window: Window | None) -> np.ndarray:
    volume = _open(path, start)
    stored.check_page(page, (*volume.shape, 1)[2], path)
    if window is not None:
        stored.check_window(window, volume.shape[:2])
    top, left, height, width = window or (0, 0, *volume.shape[:2])
    try:
        if path.lower().endswith(".gz"):  # to be unpacked from its beginning, whatever is read
            stored.check_memory(math.prod(volume.shape) * volume.get_data_dtype().itemsize, path)
            data = _unpacked(path, os.stat(path).st_mtime_ns)
        else:
            data = volume.dataobj if _is_scaled(volume) else volume.dataobj.get_unscaled()
            if not _is_scaled(volume):
                data = np.asanyarray(data)  # a map of the file into memory
        part = data[top : top + height, left : left + width]
        return np.asarray(part[:, :, page] if len(volume.shape) > 2 else part)
    except Exception as error:
        raise unreadable(path, error) from None


@functools.lru_cache(maxsize=2)
def _unpacked(path: str, _changed: int) -> np.ndarray:
    volume = _open(path, b"\x1f\x8b")
    with gzip.open(path) as file:
        data = file.read(volume.dataobj.offset + math.prod(volume.shape) * volume.get_data_dtype().itemsize)
        rest = 0  # to the end, where the checksum is, which nibabel does not come to
        while more := len(file.read(2**20)):
            rest += more
            if rest > stored.SMALL:
                raise Unreadable(f"{path} holds far more than the {len(data)} bytes that its header says.", REMEDY)
    volume = type(volume).from_bytes(data)
    return np.asarray(volume.dataobj) if _is_scaled(volume) else np.asarray(volume.dataobj.get_unscaled())


def _open(path: str, start: bytes) -> Any:
    try:
        import nibabel
    except ImportError:
        raise missing(path, "medical", "nibabel") from None
    try:
        _check_offset(path, start)
        volume = nibabel.load(path)
    except Exception as error:
        raise unreadable(path, error, b"" if start.startswith(b"\x1f\x8b") else start) from None
    if not 2 <= len(volume.shape) <= 4:
        raise UserError(f"{path} has {len(volume.shape)} axes, expected height x width x slices (x bands).")
    if min(volume.shape) < 1:
        shape = "x".join(map(str, volume.shape))
        raise Unreadable(f"{path} holds no voxel: its header says that it is {shape}.", REMEDY)
    stored.check_pages((*volume.shape, 1)[2], path)
    return volume


def _check_offset(path: str, start: bytes) -> None:
    """Raises a `UserError` if far more than notes stands before the voxels, all of which nibabel reads."""
    if start.startswith(b"\x1f\x8b"):
        with gzip.open(path) as file:
            start = file.read(_BEGINNING)
    for order in "<>":
        for size, kind, place in ((348, "f", 108), (540, "q", 168)):  # NIfTI-1, NIfTI-2
            if len(start) >= _BEGINNING and struct.unpack_from(f"{order}i", start)[0] == size:
                stored.check_memory(int(struct.unpack_from(order + kind, start, place)[0]), path)


def _affine(volume: Any) -> tuple[tuple[float, ...], ...] | None:
    """From (row, column, slice, 1) to millimeters; None where the file does not say where it lies."""
    header = volume.header
    if not (int(header["sform_code"]) or int(header["qform_code"])) or not np.isfinite(volume.affine).all():
        return None
    return tuple(tuple(map(float, row)) for row in volume.affine)


def _is_scaled(volume: Any) -> bool:
    return (volume.dataobj.slope, volume.dataobj.inter) != (1, 0)
