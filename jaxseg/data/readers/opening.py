"""Opening files: whatever keeps one from being read is said as what it is, and nothing waits for ever."""

import errno
import os
import stat
from pathlib import Path, PurePath

from jaxseg.checks import TooLarge, Unreadable, UserError
from jaxseg.data.readers.stored import WindowError

FOLDER = ".zarr"  # extension of folders that are one image
REMEDY = "Replace it, or remove it with its counterpart."  # in a data set, where each image has a label beside it
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAGIC = {
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive (npz, docx …)",
    b"\x1f\x8b": "compressed with gzip",
    b"\x93NUMPY": "a NumPy array: name it .npy",
    b"\x00\x00\x00\x0cjP": "a JPEG 2000 image: name it .jp2",
    b"MATLAB": "a file of MATLAB",
    b"CDF": "a NetCDF file",
    b"RIFF": "a RIFF file, but no WebP image that Pillow reads",
}


def check_file(path: str) -> bytes:
    """Returns the first bytes of a file; raises a `UserError` if there are none to read.

    Only regular files are opened, since opening a pipe or a device may wait for ever. Of a folder that is an image
    (`FOLDER`) there are no first bytes, b"".
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if os.path.islink(path):
            what = "a link in a circle" if error.errno == errno.ELOOP else "which does not exist"
            raise Unreadable(f"{path} is a link to {os.readlink(path)}, {what}. Mend or remove the link.") from None
        if isinstance(error, FileNotFoundError):
            raise Unreadable(f"{path} does not exist.") from None
        raise Unreadable(f"{path} may not be opened: {error.strerror}.") from None
    if stat.S_ISDIR(mode) and suffix(path) == FOLDER:
        return b""
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe (FIFO)"), (stat.S_ISSOCK, "a socket"))
        kind = next((name for test, name in kinds if test(mode)), "a device")
        raise Unreadable(f"{path} is {kind}, expected a file. Remove it from the images and labels.")
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        raise Unreadable(f"{path} may not be read: {error.strerror}.") from None
    if not start:
        raise Unreadable(f"{path} does not read: it is empty (0 bytes).", REMEDY)
    return start


def is_folder(path: str | Path) -> bool:
    """Whether a path is a folder of images, not one that is an image."""
    return os.path.isdir(path) and suffix(path) != FOLDER


def is_tiff(start: bytes) -> bool:
    """Whether a file that starts so is a TIFF, whatever its name."""
    return start[:4] in TIFF_MAGIC


def unreadable(path: str, error: Exception, start: bytes = b"") -> ValueError:
    """Returns the error to raise where a library could not read a file; `start` are its first bytes."""
    if isinstance(error, UserError | WindowError):
        return error
    if isinstance(error, MemoryError):
        return Unreadable(f"{path} is too large for the memory of this machine. Cut it into tiles.")
    if type(error).__name__ == "DecompressionBombError":  # Pillow's, before it looks at a pixel
        return TooLarge(
            f"{path} has more pixels than are read ({error}) Cut it into tiles, or save it as a tiled TIFF."
        )
    if isinstance(error, PermissionError):
        return Unreadable(f"{path} may not be read: {error.strerror}.")
    what = _recognize(start)
    if what:
        return Unreadable(f"{path} does not read: it is {what}.", REMEDY)
    if _is_unknown(error):
        return Unreadable(
            f"{path} does not read: its beginning is of no image format that is known here"
            f" ({start[:8].hex(' ') or 'no bytes'}). Convert it to PNG or TIFF."
        )
    return Unreadable(
        f"{path} does not read ({type(error).__name__}: {error}). The file is damaged or cut short.", REMEDY
    )


def missing(path: str, extra: str, library: str) -> UserError:
    """Returns the error to raise where a file needs a library that is not installed."""
    return UserError(f"{path} is read by {library}, which is not installed: pip install 'jaxseg[{extra}]'")


def suffix(path: str | Path) -> str:
    """Returns the extension in lower case, `.nii.gz` as one.

    >>> suffix("a/B.c.JPG"), suffix("t1.nii.gz")
    ('.jpg', '.nii.gz')
    """
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def stem(path: str | PurePath) -> str:
    """Returns the file's name without the extension.

    >>> stem("a/p.v2.final.jpg"), stem("t1.nii.gz")
    ('p.v2.final', 't1')
    """
    name = Path(path).name
    return name[: len(name) - len(suffix(name))]


def _is_unknown(error: Exception) -> bool:
    return type(error).__name__ == "UnidentifiedImageError"


def _recognize(start: bytes) -> str:
    """What a file is that starts so and that is no image we read; empty where that is not known."""
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file (git lfs pull fetches it)"
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            return what
    if start[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif"):
        return "a HEIC or AVIF image, which is not read: save it as PNG or JPEG"
    if start and not is_tiff(start) and _is_text(start):
        head = start.lstrip()[:15].lower()
        return "a web page (HTML), not an image" if head.startswith((b"<!doctype html", b"<html")) else "text, no image"
    return ""


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # else the last letter was cut
            return False
        text = start[: error.start].decode()
    return all(c.isprintable() or c in "\t\r\n\f" for c in text)
