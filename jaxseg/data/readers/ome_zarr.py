"""Zarr and OME-Zarr folders by the library zarr: of an image only the chunks that are needed are read.

A folder `NAME.zarr` is one image: a Zarr array [h, w], [h, w, c] or [n, h, w, c], or a group that follows OME-NGFF
(Moore et al., 2021, doi:10.1038/s41592-021-01326-w), whose largest resolution is read: its axes t and z are pages, its
channels bands.
"""

import math
import os
import stat
from typing import Any, NamedTuple

import numpy as np

from jaxseg.checks import Unreadable, UserError, listing
from jaxseg.data.readers import stored
from jaxseg.data.readers.opening import missing, unreadable
from jaxseg.data.readers.stored import Header, StoredLabel, Window
from jaxseg.files import LARGEST

CHUNK = 2**30  # bytes of a chunk in memory; one of more is refused
METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
BANDS = 65535  # as many as a TIFF may have

# What chunks may be coded with: numbers in, numbers out. Others run code that the file holds (pickle).
CODECS = {
    *("adler32", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset", "fletcher32"),
    *("gzip", "lz4", "lzma", "packbits", "quantize", "sharding_indexed", "shuffle", "transpose", "zlib", "zstd"),
}


class _Image(NamedTuple):
    """An array and what its axes are."""

    array: Any
    order: tuple[tuple[int, ...], int, int, int | None]  # the axes of pages, height, width, bands
    names: tuple[str, ...]  # of the bands, where the metadata says them

    @property
    def pages(self) -> int:
        return math.prod(self.array.shape[axis] for axis in self.order[0])

    @property
    def bands(self) -> int:
        return 1 if self.order[3] is None else self.array.shape[self.order[3]]


def header(path: str, start: bytes) -> Header:
    """Returns what a folder holds."""
    image = _open(path)
    _, down, right, _ = image.order
    dtype = stored.record_type(image.array.dtype, path)
    count, gray = image.bands, image.bands == 1 and dtype == "uint8"
    known = image.names or (stored.RGB if dtype == "uint8" and count == 3 else stored.band_names(count))
    names = stored.RGB if gray else known
    height, width = image.array.shape[down], image.array.shape[right]
    return Header(image.pages, height, width, len(names), dtype, names, stored=("gray",) if gray else known)


def read(path: str, start: bytes, page: int, window: Window | None, bands: tuple[int, ...] | None) -> np.ndarray:
    """Returns the pixels of a page, as `readers.read_image` describes."""
    image = _open(path)
    stored.check_page(page, image.pages, path)
    stored.check_bands(bands, image.names or stored.band_names(image.bands), path)
    values = stored.to_record(stored.choose(_pixels(image, path, page, window), bands), path)
    return np.repeat(values, 3, 2) if bands is None and values.dtype == np.uint8 and values.shape[2] == 1 else values


def read_label(path: str, start: bytes, page: int, window: Window | None) -> StoredLabel:
    """Returns the values [h, w] of a page of one band."""
    image = _open(path)
    stored.check_page(page, image.pages, path)
    if image.bands != 1:
        raise UserError(f"{path} has {image.bands} bands. A label has one, of class ids.")
    return StoredLabel(stored.to_label(_pixels(image, path, page, window)[..., 0], path))


def _pixels(image: _Image, path: str, page: int, window: Window | None) -> np.ndarray:
    pages, down, right, channel = image.order
    height, width = image.array.shape[down], image.array.shape[right]
    if window is None:
        stored.check_pixels(width, height, path)
    box = window or (0, 0, height, width)
    stored.check_window(box, (height, width))
    needed = box[2] * box[3] * image.bands * image.array.dtype.itemsize
    if needed > stored.SMALL:
        stored.check_memory(needed, path, _size(path))
    index: list[Any] = [slice(None)] * image.array.ndim
    places = np.unravel_index(page, [image.array.shape[axis] for axis in pages]) if pages else ()
    for axis, place in zip(pages, places, strict=True):
        index[axis] = int(place)
    index[down], index[right] = slice(box[0], box[0] + box[2]), slice(box[1], box[1] + box[3])
    try:
        values = np.asarray(image.array[tuple(index)])
    except Exception as error:
        raise unreadable(path, error) from None
    left = [axis for axis in range(image.array.ndim) if axis not in pages]  # of what the numbers left
    if channel is None:
        return values[..., None] if left == [down, right] else values.T[..., None]
    return np.transpose(values, [left.index(axis) for axis in (down, right, channel)])


def _open(path: str) -> _Image:
    try:
        import zarr
    except ImportError:
        raise missing(path, "zarr", "zarr") from None
    try:
        found = zarr.open(_store(path), mode="r")
        image = _of_group(found, path) if isinstance(found, zarr.Group) else _of_array(found, path)
    except Exception as error:
        raise unreadable(path, error) from None
    if image.array.dtype.kind not in "buif":
        raise UserError(f"{path} holds values of the type {image.array.dtype}, expected numbers.")
    _check_codecs(image.array.metadata.to_dict(), path)
    size = int(np.prod(image.array.chunks, dtype=np.float64)) * image.array.dtype.itemsize
    if size > CHUNK or (getattr(image.array, "shards", None) and np.prod(image.array.shards, dtype=float) > 64 * CHUNK):
        raise Unreadable(
            f"{path} has chunks of {size / 1e9:.1f} GB, each of which is read whole; expected up to {CHUNK / 1e9:.1f}."
            " Save it with smaller chunks, such as 512x512."
        )
    if image.bands > BANDS:
        raise Unreadable(f"{path} has {image.bands} bands, expected up to {BANDS}: are its axes in another order?")
    if not min(image.array.shape):
        raise Unreadable(f"{path} holds no pixel: its shape is {image.array.shape}.")
    if image.pages > stored.PAGES:
        stored.check_pages(image.pages, path, _size(path))
    return image


def _store(path: str) -> Any:
    """The folder as zarr's store, whose files are looked at before they are opened: a pipe may wait for ever."""
    from zarr.storage import LocalStore

    class Regular(LocalStore):
        async def get(self, key: str, *arguments: Any, **more: Any) -> Any:
            self._look_at(key)
            return await super().get(key, *arguments, **more)

        def get_sync(self, key: str, *arguments: Any, **more: Any) -> Any:
            self._look_at(key)
            return super().get_sync(key, *arguments, **more)

        async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
            key_ranges = list(key_ranges)
            for key, _ in key_ranges:
                self._look_at(key)
            return await super().get_partial_values(prototype, key_ranges)

        def _look_at(self, key: str) -> None:
            file = os.path.join(path, key)
            try:
                found = os.stat(file)
            except OSError:  # there is none: the chunk is blank
                return
            if stat.S_ISDIR(found.st_mode):
                return
            largest = LARGEST if os.path.basename(key) in METADATA else CHUNK
            if not stat.S_ISREG(found.st_mode) or found.st_size > largest:
                raise Unreadable(f"{file} is no regular file, or has more than {largest} bytes. Copy the folder again.")

    return Regular(path, read_only=True)


def _size(path: str) -> int:
    """Bytes of the files in a folder."""
    sizes = (os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)
    return sum(sizes)


def _check_codecs(told: Any, path: str) -> None:
    """Raises a `UserError` for a codec that is not in `CODECS`, wherever the metadata names it."""
    if isinstance(told, dict):
        for key in ("codecs", "index_codecs", "filters", "compressor"):
            for codec in told[key] if isinstance(told.get(key), list | tuple) else [told.get(key)]:
                codec = codec.get_config() if hasattr(codec, "get_config") else codec
                codec = codec.to_dict() if hasattr(codec, "to_dict") else codec
                name = codec.get("id", codec.get("name")) if isinstance(codec, dict) else codec
                if name is not None and str(name).removeprefix("numcodecs.").lower() not in CODECS:
                    raise Unreadable(
                        f"{path} is coded by '{name}', which is not read here. Known: {listing(sorted(CODECS))}."
                    )
        for value in told.values():
            _check_codecs(value, path)
    elif isinstance(told, list | tuple):
        for value in told:
            _check_codecs(value.to_dict() if hasattr(value, "to_dict") else value, path)


def _of_array(array: Any, path: str) -> _Image:
    orders = {2: ((), 0, 1, None), 3: ((), 0, 1, 2), 4: ((0,), 1, 2, 3)}
    if array.ndim not in orders:
        raise UserError(f"{path} holds an array of shape {array.shape}, expected [h, w], [h, w, c] or [n, h, w, c].")
    return _Image(array, orders[array.ndim], ())


def _of_group(group: Any, path: str) -> _Image:
    """The largest resolution of an OME-Zarr image, of NGFF 0.4 (its own attributes) or 0.5 (below "ome")."""
    attributes = group.attrs.asdict()
    attributes = attributes.get("ome", attributes)
    try:
        scales = attributes["multiscales"][0]
        array = group[str(scales["datasets"][0]["path"])]
        axes = [str(axis["name"] if isinstance(axis, dict) else axis).lower() for axis in scales["axes"]]
        pages = tuple(i for i, name in enumerate(axes) if name in ("t", "z"))
        channel = axes.index("c") if "c" in axes else None
        order = (pages, axes.index("y"), axes.index("x"), channel)
        if len(axes) != array.ndim or not set(axes) <= set("tczyx"):
            raise ValueError
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{path} is a Zarr group, but no OME-Zarr image: its attributes name no multiscales with the axes t, c, z,"
            " y, x. Name the folder of one array."
        ) from None
    return _Image(array, order, _channel_names(attributes, 1 if channel is None else array.shape[channel]))


def _channel_names(attributes: Any, count: int) -> tuple[str, ...]:
    """The labels of the channels, if they are said and differ; else ()."""
    try:
        names = tuple(str(channel["label"]) for channel in attributes["omero"]["channels"])
    except (KeyError, TypeError):
        return ()
    return names if len(set(names)) == count == len(names) and all(names) else ()
