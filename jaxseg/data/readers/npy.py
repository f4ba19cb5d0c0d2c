"""NumPy's .npy files, of which only the part that is asked for is read."""

import threading

import numpy as np

from jaxseg.checks import UserError
from jaxseg.data.readers import stored
from jaxseg.data.readers.opening import unreadable
from jaxseg.data.readers.stored import Header, StoredLabel, Window

# NumPy has Python's parser read the header, and the parser of CPython 3.11 fails where threads take turns in it.
_ONE_AT_A_TIME = threading.Lock()


def header(path: str, start: bytes, *, label: bool = False) -> Header:
    """Returns what a file holds; `start` are its first bytes."""
    values = _load(path, start, label)
    pages, height, width = values.shape[:3]
    bands = 1 if label else values.shape[3]
    dtype = stored.record_type(values.dtype, path)
    gray = bands == 1 and dtype == "uint8"
    names = stored.RGB if dtype == "uint8" and bands in (1, 3) else stored.band_names(bands)
    known = ("gray",) if gray else names
    return Header(pages, height, width, len(names), dtype, names, stored=known)


def read(path: str, start: bytes, page: int, window: Window | None, bands: tuple[int, ...] | None) -> np.ndarray:
    """Returns the pixels of a page, as `readers.read_image` describes."""
    values = _load(path, start, False)
    stored.check_page(page, len(values), path)
    stored.check_bands(bands, stored.band_names(values.shape[3]), path)
    image = stored.to_record(stored.choose(stored.crop(values[page], window), bands), path)
    return np.repeat(image, 3, 2) if bands is None and image.dtype == np.uint8 and image.shape[2] == 1 else image


def read_label(path: str, start: bytes, page: int, window: Window | None) -> StoredLabel:
    """Returns the values [h, w], or the colors uint8[h, w, 3], of a page."""
    values = _load(path, start, True)
    stored.check_page(page, len(values), path)
    return StoredLabel(stored.to_label(stored.crop(values[page], window), path))


def _load(path: str, start: bytes, label: bool) -> np.ndarray:
    """The array with an axis of pages: [n, h, w, c] of images, [n, h, w] or, of colors, [n, h, w, 3] of labels."""
    try:
        with _ONE_AT_A_TIME:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise UserError(
                f"{path} holds objects of Python, expected an array of numbers (or no .npy file)."
            ) from None
        raise unreadable(path, error, b"" if start.startswith(b"\x93NUMPY") else start) from None
    expected = "[h, w], [n, h, w] or colors [h, w, 3]" if label else "[h, w], [h, w, c] or [n, h, w, c]"
    if not 2 <= values.ndim <= 4 or not values.size:
        raise UserError(f"{path} holds an array of shape {values.shape}, expected {expected}.")
    if label:
        colors = values.dtype == np.uint8 and values.shape[-1] == 3 and values.ndim >= 3
        if values.ndim == 4 and not colors:
            if values.shape[-1] != 1:
                raise UserError(f"{path} holds an array of shape {values.shape}, expected {expected}.")
            values = values[..., 0]
        if values.ndim == 3 and values.shape[-1] == 1:
            values = values[..., 0]
        return values if values.ndim - colors == 3 else values[None]
    values = values[..., None] if values.ndim == 2 else values
    return values if values.ndim == 4 else values[None]
