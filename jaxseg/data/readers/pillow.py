"""JPEG, PNG, WebP, BMP, GIF and simple TIFF files, by Pillow: 8 bits, and gray PNG of 16."""

import io
import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from jaxseg.checks import UserError
from jaxseg.data.readers import stored
from jaxseg.data.readers.opening import unreadable
from jaxseg.data.readers.stored import Header, StoredLabel, Window

if TYPE_CHECKING:
    import PIL.Image

ORIENTATION = 0x0112  # of EXIF and of TIFF
_BANDS = {
    "1": ("gray",),
    "L": ("gray",),
    "P": ("index",),
    "LA": ("gray", "alpha"),
    "La": ("gray", "alpha"),
    "PA": ("index", "alpha"),
    "RGB": stored.RGB,
    "RGBA": (*stored.RGB, "alpha"),
    "RGBX": (*stored.RGB, "band3"),
    "RGBa": (*stored.RGB, "alpha"),
    "CMYK": ("cyan", "magenta", "yellow", "black"),
}


def _names(image: "PIL.Image.Image") -> tuple[str, ...]:
    """The bands as stored, transparency among them if a color stands for it (PNG's and GIF's)."""
    names = _BANDS.get(image.mode, stored.RGB)
    return (*names, "alpha") if _has_color_key(image) else names


def _has_color_key(image: "PIL.Image.Image") -> bool:
    return "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")


def is_wide_color(start: bytes) -> bool:
    """Whether a file that starts so is a PNG of several channels of 16 bits, of which Pillow drops the lower 8."""
    return start.startswith(b"\x89PNG") and start[24:25] == b"\x10" and start[25:26] != b"\0"


def header(path: str, start: bytes) -> Header:
    """Returns what a file holds; `start` are its first bytes."""
    try:
        with _open(path, start) as image:
            width, height = image.size
            orientation = _exif(image, path).get(ORIENTATION, 1)
            turned = orientation in range(2, 9)
            if turned and orientation >= 5:
                width, height = height, width
            wide = image.mode.startswith("I")
            names = ("gray",) if wide else stored.RGB
            known = ("gray",) if wide else _names(image)
            kind = "uint16" if wide else "uint8"
            return Header(_pages(image), height, width, len(names), kind, names, None, turned, known)
    except Exception as error:
        raise unreadable(path, error, start) from None


def read(path: str, start: bytes, page: int, window: Window | None, bands: tuple[int, ...] | None) -> np.ndarray:
    """Returns uint8[h, w, 3], RGB, or uint16[h, w, 1]; the bands as stored if some are asked for."""
    try:
        with _open(path, start) as image:
            stored.check_size(*image.size, path)
            _check_chunks(image, path)
            _seek(image, page, path)
            _turn(image)
            known = ("gray",) if image.mode.startswith("I") else _names(image)
            stored.check_bands(bands, known, path)
            if image.mode.startswith("I"):
                return stored.choose(stored.crop(_wide(image, path), window), bands)
            if bands is not None:
                image = image.convert("L") if image.mode == "1" else image
                values = np.asarray(image if image.mode in _BANDS else image.convert("RGB"))
                if _has_color_key(image):
                    values = np.dstack([values, np.asarray(image.convert("RGBA"))[..., 3]])
                return np.array(stored.crop(values.reshape(*values.shape[:2], -1), window)[..., list(bands)])
            if image.mode == "P":
                image = image.convert("RGBA" if "transparency" in image.info else "RGB")
            image = image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
            return np.array(stored.crop(np.asarray(image), window))
    except Exception as error:
        raise unreadable(path, error, start) from None


def read_label(path: str, start: bytes, page: int, window: Window | None) -> StoredLabel:
    """Returns the values of gray and palette files, the colors of others."""
    try:
        with _open(path, start) as label:
            if label.format in ("JPEG", "MPO"):
                raise UserError(f"{path} is a JPEG, whose compression invents labels. Save labels as PNG.")
            stored.check_size(*label.size, path, len(label.getbands()))
            _check_chunks(label, path)
            _seek(label, page, path)
            _turn(label)
            return StoredLabel(*_label_values(label, path, window))
    except Exception as error:
        raise unreadable(path, error, start) from None


def _label_values(label: "PIL.Image.Image", path: str, window: Window | None) -> tuple[np.ndarray, np.ndarray | None]:
    if label.mode in ("L", "P", "LA", "PA", "1") or label.mode.startswith("I"):
        values = stored.crop(np.asarray(label), window)
        values = values[..., 0] if values.ndim == 3 else values
        values = values.astype(np.uint8) if label.mode == "1" else np.array(values)
        colors = label.getpalette("RGB") if label.mode in ("P", "PA") else None
        return values, None if colors is None else np.array(colors, np.uint8).reshape(-1, 3)
    if label.mode in ("RGB", "RGBA", "RGBX"):
        return np.array(stored.crop(np.asarray(label), window)[..., :3]), None
    raise UserError(f"{path} has the color mode {label.mode}. Labels are gray, palette or RGB files, best PNG.")


def _open(path: str, start: bytes) -> "PIL.Image.Image":
    from PIL import Image

    if Image.MAX_IMAGE_PIXELS is not None and Image.MAX_IMAGE_PIXELS < stored.LARGEST:
        Image.MAX_IMAGE_PIXELS = stored.LARGEST  # Pillow warns from there on; its own limit is 89 megapixels
    if is_wide_color(start):
        raise UserError(
            f"{path} is a PNG of several channels of 16 bits, of which Pillow keeps 8. Save it as TIFF, or read it by"
            " rasterio: pip install 'jaxseg[geo]'"
        )
    return Image.open(path)


def _pages(image: "PIL.Image.Image") -> int:
    """Frames of a GIF or TIFF are pages; a JPEG's further ones (MPO) are previews or the other eye's view."""
    return 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)


def _exif(image: "PIL.Image.Image", path: str) -> "PIL.Image.Exif":
    """The EXIF data of a file. Pillow decodes all of a PNG for them, as they may stand at its end; they hardly do."""
    from PIL import Image

    return image.getexif() if image.format != "PNG" or _has_text_at_end(path) else Image.Image.getexif(image)


def _has_text_at_end(path: str) -> bool:
    """Whether a PNG has EXIF or text, which may hold EXIF, behind its pixels."""
    behind = False
    for _, kind in _chunks(path):
        behind |= kind == b"IDAT"
        if behind and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            return True
    return False


def _check_chunks(image: "PIL.Image.Image", path: str) -> None:
    """Raises an `OSError` for a PNG whose parts claim to be longer than the file: Pillow would set that aside."""
    if image.format == "PNG":
        size = os.path.getsize(path)
        if any(length > size for length, _ in _chunks(path)):
            raise OSError("one of its parts says that it is longer than the file")


def _chunks(path: str) -> Iterator[tuple[int, bytes]]:
    """Yields the length and the kind of every part of a PNG."""
    with open(path, "rb", buffering=0) as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            yield struct.unpack(">I4s", head)
            file.seek(struct.unpack(">I4s", head)[0] + 4, 1)  # the checksum, too


def _seek(image: "PIL.Image.Image", page: int, path: str) -> None:
    pages = _pages(image)
    stored.check_page(page, pages, path)
    if pages > 1 and image.format in ("PNG", "WEBP"):
        raise UserError(f"{path} is an animation of {pages} pages. Save each as a file of its own.")
    if page:
        image.seek(page)


def _turn(image: "PIL.Image.Image") -> None:
    from PIL import ImageOps

    ImageOps.exif_transpose(image, in_place=True)


def _wide(image: "PIL.Image.Image", path: str) -> np.ndarray:
    """The values of an image of 16 bits, uint16[h, w, 1]."""
    values = np.asarray(image)
    if values.dtype != np.uint16 and (values.min() < 0 or values.max() > 65535):
        raise UserError(f"{path} holds integers from {values.min()} to {values.max()}, expected 0 to 65535 (16 bit).")
    return values.astype(np.uint16)[..., None]


def decompress(data: bytes, scheme: int, rows: int, row_bytes: int) -> bytes:
    """Returns what a strip or tile of a TIFF holds that is compressed by `scheme` (5: LZW, 50000: Zstandard, …).

    Pillow does it, being handed the bytes as a gray image of their number.
    """
    from PIL import Image

    tags = {256: row_bytes, 257: rows, 258: 8, 259: scheme, 262: 1, 273: 8, 277: 1, 278: rows, 279: len(data)}
    padded = data + b"\0" * (len(data) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    file = b"II*\0" + struct.pack("<I", 8 + len(padded)) + padded + struct.pack("<H", len(tags)) + entries + b"\0" * 4
    with Image.open(io.BytesIO(file)) as image:
        return image.tobytes()
