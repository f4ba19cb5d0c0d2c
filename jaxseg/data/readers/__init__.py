"""Reading image and label files: one module a library, chosen by the extension, each imported when it is needed.

| extension | library | installed by |
|---|---|---|
| jpg jpeg png webp bmp gif | Pillow | the core |
| tif tiff | tifffile, and Pillow for simple ones | the core |
| npy | NumPy | the core |
| nii nii.gz, dcm | nibabel, pydicom | `pip install 'jaxseg[medical]'` |
| zarr (a folder: Zarr, OME-Zarr) | zarr | `pip install 'jaxseg[zarr]'` |
| jp2 vrt img, and TIFF of rare compression | rasterio | `pip install 'jaxseg[geo]'` |

Whatever keeps a file from being read raises a `UserError` that names the file and says what it is.
"""

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np

from jaxseg.checks import UserError
from jaxseg.data.readers import geo, opening, pillow
from jaxseg.data.readers.stored import Header, StoredLabel, Window

__all__ = [
    "IMAGE_SUFFIXES",
    "LABEL_SUFFIXES",
    "Header",
    "StoredLabel",
    "header",
    "list_pages",
    "pages",
    "read_image",
    "read_label",
    "read_rgb",
    "read_stored_label",
]

_PILLOW = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
_FURTHER = (".tif", ".tiff", ".npy", ".nii", ".nii.gz", ".dcm", opening.FOLDER, *geo.SUFFIXES)
IMAGE_SUFFIXES = (*_PILLOW, *_FURTHER)
LABEL_SUFFIXES = tuple(s for s in IMAGE_SUFFIXES if s not in (".jpg", ".jpeg", ".jp2"))


def header(path: str | Path, *, label: bool = False) -> Header:
    """Returns what a file holds, without reading its pixels.

    Args:
      path: of the file.
      label: whether it is a label; a three-dimensional .npy is then a stack [n, h, w], not an image [h, w, c].
    """
    path = str(path)
    module, start = _module(path)
    return (
        module.header(path, start, label=True)
        if label and module.__name__.endswith("npy")
        else module.header(path, start)
    )


def read_image(
    path: str | Path, *, page: int = 0, window: Window | None = None, bands: tuple[int, ...] | None = None
) -> np.ndarray:
    """Returns a page of an image as stored: [h, w, c] of uint8, uint16, int16 or float32, upright.

    Gray, palette and RGB files of 8 bits, with transparency or without, become uint8[h, w, 3], RGB: gray is repeated,
    palettes are looked up, transparency is dropped (the colors beneath stay as they are stored). All others keep their
    numbers and bands. Other types become the nearest that holds them: float64 is rounded to float32.

    Args:
      path: of the file.
      page: of a file with several, from 0.
      window: (top, left, height, width) in pixels, inside the image; all of it if None. Of tiled TIFF and .npy only
        what is needed is read.
      bands: the stored bands to return, by their numbers from 0, in this order. They are not made RGB.
    """
    path = str(path)
    module, start = _module(path)
    try:
        return module.read(path, start, page, window, bands)
    except UserError as error:
        if module.__name__.endswith("tiff") and "jaxseg[geo]" in str(error) and geo.is_installed() and page == 0:
            return geo.read(path, start, page, window, bands)
        raise


def read_label(path: str | Path, *, page: int = 0, window: Window | None = None) -> np.ndarray:
    """Returns a page of a label, upright: whole numbers [h, w] as stored, or uint8[h, w, 3] if coded in colors.

    Of a palette file, the indices. The arguments are those of `read_image`.
    """
    return read_stored_label(path, page=page, window=window).values


def read_stored_label(path: str | Path, *, page: int = 0, window: Window | None = None) -> StoredLabel:
    """Returns what `read_label` does, with the palette of a palette file."""
    path = str(path)
    module, start = _module(path)
    try:
        return module.read_label(path, start, page, window)
    except UserError as error:
        if module.__name__.endswith("tiff") and "jaxseg[geo]" in str(error) and geo.is_installed() and page == 0:
            return geo.read_label(path, start, page, window)
        raise


def read_rgb(path: str | Path, *, page: int | None = None) -> np.ndarray:
    """Returns an image of 8 bits as uint8[h, w, 3], RGB, for what takes no other; other images are an error.

    Args:
      path: of the file.
      page: of a file with several, from 0; None expects a file of one page.
    """
    known = header(path)
    if page is None and known.pages > 1:
        raise UserError(f"{path} holds {known.pages} pages, expected one image. Save each page as a file of its own.")
    if (known.dtype, known.bands) != ("uint8", 3):
        raise UserError(
            f"{path} holds {known.bands} bands ({', '.join(known.names[:6])}) of {known.dtype}, expected an RGB image"
            " of 8 bits."
        )
    return read_image(path, page=page or 0)


def pages(path: str | Path, *, label: bool = False) -> int:
    """Returns the number of pages of a file; quickly, since listing a folder asks it of every file."""
    if opening.suffix(path) in _PILLOW and opening.suffix(path) != ".gif":
        return 1
    path = str(path)
    start = opening.check_file(path)
    if opening.is_tiff(start):
        from jaxseg.data.readers import tiff

        if tiff.is_single(path, start):
            return 1
    return header(path, label=label).pages


def list_pages(files: Iterable[str | Path]) -> list[tuple[Path, int | None, str]]:
    """Returns (file, page, name) of every image in the files, in order; page is None for files of one.

    The name is the file's stem, with the number of the page of those that have several: `stem[07]`.
    """
    listed: list[tuple[Path, int | None, str]] = []
    for file in map(Path, files):
        count = pages(file)
        stem = opening.stem(file)
        if count == 1:
            listed.append((file, None, stem))
        else:
            listed += [(file, page, page_name(stem, page, count)) for page in range(count)]
    return listed


def page_name(stem: str, page: int, count: int) -> str:
    """Returns the name of a page, its number from 0 with as many digits as the last one has.

    >>> page_name("cell", 7, 30)
    'cell[07]'
    """
    return f"{stem}[{page:0{len(str(count - 1))}d}]"


def _module(path: str) -> tuple[ModuleType, bytes]:
    """The module that reads a file, and the first bytes of the file, which has passed the checks."""
    start = opening.check_file(path)
    end = opening.suffix(path)
    if opening.is_tiff(start) and end not in geo.SUFFIXES:
        from jaxseg.data.readers import tiff

        return tiff, start
    if end == ".npy":
        from jaxseg.data.readers import npy

        return npy, start
    if end in (".nii", ".nii.gz"):
        from jaxseg.data.readers import nifti

        return nifti, start
    if end == ".mat":
        from jaxseg.data.readers import mat

        return mat, start
    if end == opening.FOLDER:
        from jaxseg.data.readers import ome_zarr

        return ome_zarr, start
    if end == ".dcm" or start[128:132] == b"DICM":
        from jaxseg.data.readers import dicom

        return dicom, start
    return (geo if end in geo.SUFFIXES or (pillow.is_wide_color(start) and geo.is_installed()) else pillow), start
