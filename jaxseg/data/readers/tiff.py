"""TIFF by tifffile: stacks, many bands, 16 bits and floats, and windows for which only the tiles needed are read.

Files of one page and of 8 bits, gray, palette or RGB, are Pillow's (`readers.pillow`), but for windows of them.
"""

import contextlib
import math
import re
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxseg.checks import UserError
from jaxseg.data.readers import geo, pillow, segments, stored
from jaxseg.data.readers.chain import check_chain
from jaxseg.data.readers.opening import unreadable
from jaxseg.data.readers.stored import Header, StoredLabel, Window

if TYPE_CHECKING:
    import tifffile

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6  # TIFF's PhotometricInterpretation
_ALPHA = (1, 2)  # TIFF's ExtraSamples; 0 is a band of which nothing is said


class _Stack(NamedTuple):
    """The images of one file that are alike: what is at hand of them."""

    file: "tifffile.TiffFile"
    series: Any
    key: "tifffile.TiffPage"
    pages: int
    channels: int  # images of one band each that make up a page


def header(path: str, start: bytes) -> Header:
    """Returns what a file holds; `start` are its first bytes."""
    with _open(path, start) as stack:
        key = stack.key
        height, width = key.imagelength, key.imagewidth
        orientation = _orientation(key)
        if orientation >= 5:
            height, width = width, height
        known = _names(stack)
        dtype = stored.record_type(key.dtype, path)
        names = stored.RGB if _is_simple(stack) else tuple(n for n in known if n != "alpha")
        masked = any(series.keyframe.subfiletype & 4 for series in stack.file.series[1:])
        told = {"turned": orientation != 1, "stored": known, "masked": masked, "scaling": _scaling(key)}
        return Header(stack.pages, height, width, len(names), dtype, names, _nodata(key), **told)


def read(path: str, start: bytes, page: int, window: Window | None, bands: tuple[int, ...] | None) -> np.ndarray:
    """Returns the pixels of a page, as `readers.read_image` describes."""
    with _open(path, start) as stack:
        stored.check_page(page, stack.pages, path)
        known = _names(stack)
        stored.check_bands(bands, known, path)
        if bands is None and "alpha" in known:
            _check_alpha(stack, page, window, path)
        if _is_pillows(stack, window):
            if window is not None and _is_gdals(stack):
                return geo.read(path, start, page, window, bands)
            return pillow.read(path, start, page, window, bands)
        simple = bands is None and _is_simple(stack)
        wanted = bands
        if bands is None and "alpha" in known:
            wanted = tuple(i for i, name in enumerate(known) if name != "alpha")
        values = stored.to_record(_upright(stack, page, window, wanted, path), path)
        if stack.key.photometric == WHITE_IS_ZERO and values.dtype.kind == "u":
            values = np.iinfo(values.dtype).max - values
        if not simple:
            return values
        if stack.key.photometric == PALETTE:
            return _palette(stack)[values[..., 0]]
        return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values


def read_label(path: str, start: bytes, page: int, window: Window | None) -> StoredLabel:
    """Returns the values of a page of one band, the colors of one of three."""
    with _open(path, start) as stack:
        stored.check_page(page, stack.pages, path)
        if _is_pillows(stack, window):
            label = pillow.read_label(path, start, page, window)
            if stack.key.photometric == WHITE_IS_ZERO:  # which is for the eye: Pillow turns it, ids stay as stored
                most = 1 if stack.key.bitspersample == 1 else 255
                return StoredLabel(np.subtract(most, label.values, dtype=label.values.dtype))
            return label
        known = _names(stack)
        colors = stack.key.dtype == np.uint8 and known[:3] == stored.RGB
        if len(known) - ("alpha" in known) != 1 and not colors:
            raise UserError(
                f"{path} has {len(known)} bands of {stack.key.dtype}. A label has one band, of class ids, or the"
                " colors red, green and blue of 8 bits."
            )
        values = _upright(stack, page, window, (0, 1, 2) if colors else (0,), path)
        palette = _palette(stack) if stack.key.photometric == PALETTE else None
        return StoredLabel(stored.to_label(values if colors else values[..., 0], path), palette)


def is_single(path: str, start: bytes) -> bool:
    """Whether a TIFF surely has one page, by its first directory alone; if not, a closer look is needed.

    Listing a folder asks this of every file, so it reads no more than that.
    """
    order = "<" if start[:2] == b"II" else ">"
    if start[2:4] not in (b"*\0", b"\0*") or len(start) < 8:  # BigTIFF, or cut short
        return False
    with open(path, "rb") as file:
        file.seek(struct.unpack(order + "I", start[4:8])[0])
        count = struct.unpack(order + "H", file.read(2).ljust(2, b"\0"))[0]
        directory = file.read(12 * count + 4)
    if len(directory) != 12 * count + 4:
        return False
    tags = {struct.unpack(order + "H", directory[i : i + 2])[0] for i in range(0, 12 * count, 12)}
    described = 270 in tags  # ImageJ keeps the number of its images in a description
    return not described and directory[-4:] == b"\0\0\0\0"


@contextlib.contextmanager
def _open(path: str, start: bytes) -> Iterator[_Stack]:
    import logging

    import tifffile

    logger = logging.getLogger("tifffile")
    if logger.level == logging.NOTSET:  # what matters is raised; who wants to read more sets a level
        logger.setLevel(logging.CRITICAL)
    try:
        check_chain(path, start)
        with tifffile.TiffFile(path) as file:
            yield _stack(file, path)
    except segments.Unsupported as error:
        raise UserError(
            f"{path} is compressed in a way ({error}) that needs further software: pip install 'jaxseg[geo]'"
        ) from None
    except Exception as error:
        raise unreadable(path, error, start) from None


def _stack(file: "tifffile.TiffFile", path: str) -> _Stack:
    """Finds the images: those like the first. Overviews and masks, which say that they are, are left out."""
    series = file.series[0]
    key = series.keyframe
    others = [s for s in file.series[1:] if not (s.keyframe.is_reduced or s.keyframe.subfiletype & 4)]
    if others and series.kind in ("generic", "uniform", "shaped"):
        sizes = [f"{s.keyframe.imagewidth}x{s.keyframe.imagelength}" for s in (series, *others)]
        raise UserError(
            f"{path} holds {len(file.pages)} pages that are not alike ({', '.join(sizes[:5])}; width x height). Save"
            " each as a file of its own."
        )
    if key.imagedepth > 1:
        raise UserError(f"{path} is a volume of {key.imagedepth} slices in one page. Save the slices as pages.")
    outer = series.axes[: len(series.axes) - len(key.axes)]
    sizes = dict(zip(outer, series.shape, strict=False))
    channels = sizes.get("C", 1) if outer.endswith("C") else 1
    if "C" in outer and not outer.endswith("C"):
        raise UserError(
            f"{path} is a stack in the order of axes {series.axes}. Save the channels next to the pixels (ZCYX, TCYX)."
        )
    return _Stack(file, series, key, math.prod(series.shape[: len(outer)]) // channels, channels)


def _names(stack: _Stack) -> tuple[str, ...]:
    """The names of all stored bands."""
    key = stack.key
    samples = key.samplesperpixel
    if stack.channels > 1:
        return stored.band_names(stack.channels * samples)
    described = _said(key, "DESCRIPTION")
    extra = ["alpha" if e in _ALPHA else None for e in key.extrasamples]
    first = stored.RGB if key.photometric == RGB and samples >= 3 else ()
    if key.photometric == PALETTE:
        first = ("index",)
    names: list[str] = []
    for i in range(samples):
        place = i - (samples - len(extra))
        alpha = extra[place] if 0 <= place < len(extra) and i >= len(first) else None
        fallback = (
            first[i] if i < len(first) else ("gray" if samples == 1 or (i == 0 and "alpha" in extra) else f"band{i}")
        )
        names.append(alpha or described.get(i) or fallback)
    return tuple(names)


def _said(key: "tifffile.TiffPage", name: str) -> dict[int, str]:
    """What GDAL keeps of bands under a name."""
    text = key.tags.valueof(42112) or ""
    found = re.findall(rf'<Item name="{name}" sample="(\d+)"[^>]*>([^<]+)</Item>', str(text))
    return {int(sample): value for sample, value in found}


def _scaling(key: "tifffile.TiffPage") -> tuple[tuple[float, float], ...]:
    bands = range(key.samplesperpixel)
    scales, offsets = _said(key, "SCALE"), _said(key, "OFFSET")
    try:
        return stored.scaling([float(scales.get(i, 1)) for i in bands], [float(offsets.get(i, 0)) for i in bands])
    except ValueError:  # no number: as if nothing was said
        return ()


def _is_simple(stack: _Stack) -> bool:
    """Whether images of the file are, or become, 8-bit RGB: gray, palette and RGB files of 8 bits or less."""
    key = stack.key
    if stack.channels > 1 or key.bitspersample > 8 or key.dtype is None or key.dtype.kind not in "ub":
        return False
    plain = [e for e in key.extrasamples if e not in _ALPHA]
    if key.photometric > 10:
        return False
    colors = key.samplesperpixel - len(key.extrasamples)
    return not plain and len(key.extrasamples) <= 1 and (colors in (1, 3) or key.photometric == 5)


def _is_pillows(stack: _Stack, window: Window | None) -> bool:
    """Whether Pillow reads the file better: it knows all color spaces of 8 bits.

    It garbles those that are to be turned by a quarter and are not compressed (Pillow 13).
    """
    key = stack.key
    plain = key.photometric in (BLACK_IS_ZERO, RGB, PALETTE) and key.bitspersample == 8
    return _is_simple(stack) and stack.pages == 1 and not (plain and (window is not None or _orientation(key) >= 5))


def _is_gdals(stack: _Stack) -> bool:
    """Whether windows are rasterio's: of tiles of JPEG, as aerial images have, Pillow unpacks all for each window."""
    key = stack.key
    return key.is_tiled and key.photometric == YCBCR and _orientation(key) == 1 and geo.is_installed()


def _check_alpha(stack: _Stack, page: int, window: Window | None, path: str) -> None:
    """A fourth band that a program called transparency though it is none, near infrared say, is not dropped."""
    known = _names(stack)
    alpha = known.index("alpha")
    if stack.key.photometric > RGB or _orientation(stack.key) != 1:
        return
    if window is None:
        height, width = stack.key.imagelength, stack.key.imagewidth
        window = (height // 4, width // 4, max(1, min(height // 2, 256)), max(1, min(width // 2, 256)))
    try:
        values = _upright(stack, page, window, (alpha,), path)
    except segments.Unsupported:  # Pillow may know it
        return
    if ((values == values.min()) | (values == values.max())).mean() < 0.5:
        kept = tuple(i for i in range(len(known)) if i != alpha)
        raise UserError(
            f"{path} says that its band {alpha} is transparency, but it looks like an image (near infrared?). Keep or"
            f" drop it: data.options.bands={tuple(range(len(known)))} or {kept}."
        )


def _upright(stack: _Stack, page: int, window: Window | None, bands: tuple[int, ...] | None, path: str) -> np.ndarray:
    """The pixels of a page as stored, [h, w, c], turned as the file says."""
    orientation = _orientation(stack.key)
    if window is None:
        samples = (stack.key.samplesperpixel if bands is None else len(bands)) * stack.channels
        pixel = samples * (stack.key.dtype.itemsize if stack.key.dtype else 1)
        stored.check_size(stack.key.imagewidth, stack.key.imagelength, path, pixel)
    if orientation == 1:
        return _page(stack, page, window, bands)
    values = _page(stack, page, None, bands)
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return stored.crop(values, window)


def _page(stack: _Stack, page: int, window: Window | None, bands: tuple[int, ...] | None) -> np.ndarray:
    key, series = stack.key, stack.series
    box = window or (0, 0, key.imagelength, key.imagewidth)
    stored.check_window(box, (key.imagelength, key.imagewidth))
    if stack.channels > 1 or (series.dataoffset is not None and len(series.pages) < stack.pages * stack.channels):
        return stored.choose(_channels(stack, page, box), bands)
    return segments.read(series.pages[page] if stack.pages > 1 else key, key, box, bands)


def _channels(stack: _Stack, page: int, box: Window) -> np.ndarray:
    """A page whose channels are images of their own, or that lies in one block with all others (ImageJ)."""
    key, series = stack.key, stack.series
    top, left, height, width = box
    if series.dataoffset is not None:
        shape = (stack.pages, stack.channels, *key.shaped[:1], *key.shaped[2:])  # samples, height, width, samples
        block = np.memmap(
            stack.file.filehandle.path, series.dtype.newbyteorder(stack.file.byteorder), "r", series.dataoffset, shape
        )
        part = block[page, :, :, top : top + height, left : left + width]
        return np.moveaxis(part, (2, 3), (0, 1)).reshape(height, width, -1)
    images = [series.pages[page * stack.channels + c] for c in range(stack.channels)]
    return np.concatenate([segments.read(image, key, box, None) for image in images], axis=2)


def _palette(stack: _Stack) -> np.ndarray:
    return (np.asarray(stack.key.colormap) >> 8).astype(np.uint8).T


def _orientation(key: "tifffile.TiffPage") -> int:
    value = key.tags.valueof(pillow.ORIENTATION)
    return int(value) if value in range(1, 9) else 1


def _nodata(key: "tifffile.TiffPage") -> float | None:
    """The value that GDAL writes for pixels that hold nothing."""
    text = key.tags.valueof(42113)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
