"""What a client sends: the image out of the body, and its pixels, within limits."""

import dataclasses
import re
import tempfile
from pathlib import Path

from jaxtyping import Num
from numpy import ndarray

from jaxseg.checks import TooLarge, Unreadable, UserError
from jaxseg.data import readers
from jaxseg.data.readers import opening
from jaxseg.inference.batches import as_stored
from jaxseg.inference.file_bands import read_for
from jaxseg.inference.memory import OutOfMemory, saying_what_to_lower
from jaxseg.trained import TrainedModel

_BOUNDARY = re.compile(r'multipart/form-data\s*;.*\bboundary=("[^"]+"|[^\s;]+)', re.IGNORECASE)
_FILE = re.compile(
    rb'^content-disposition\s*:\s*form-data\s*;.*\bname=(?:"(?:image|file)"|(?:image|file)\s*(?:;|$))',
    re.IGNORECASE | re.MULTILINE,
)

REMEDY = "Send a whole image, as PNG, JPEG or TIFF for example."


class Refused(Exception):
    """A request that gets no answer but a sentence.

    Args:
      status: of HTTP, 400 to 599.
      message: what, expected, got, remedy.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a request may ask for, at most.

    Args:
      bytes: of a body.
      pixels: of an image.
      seconds: until a request is answered, its upload included.
      requests: that are read, wait or are computed at one time; more are refused.
    """

    bytes: int = 32 * 2**20
    pixels: int = 2**24
    seconds: float = 60.0
    requests: int = 64


def image_bytes(body: bytes, content_type: str) -> bytes:
    """Returns the image of a request's body: the body itself or, of a form, the field "image" or "file".

    >>> image_bytes(b"--x" + bytes([13, 10]) + b'Content-Disposition: form-data; name="image"; filename="a.png"'
    ...     + bytes([13, 10, 13, 10]) + b"PNG" + bytes([13, 10]) + b"--x--", "multipart/form-data; boundary=x")
    b'PNG'
    """
    found = _BOUNDARY.match(content_type)
    if found is None:
        if content_type.lower().startswith("multipart/"):
            raise Refused(400, f"The content type {content_type!r} has no boundary. Send a form as clients make it.")
        return body
    boundary = b"\r\n--" + found[1].strip('"').encode("latin-1", "replace")
    body = b"\r\n" + body
    start = body.find(boundary)
    while start >= 0:  # one part at a time: a body may be millions of empty ones
        end = body.find(boundary, start + len(boundary))
        part = slice(start + len(boundary), end if end >= 0 else len(body))
        head = body.find(b"\r\n\r\n", part.start, part.stop)
        if head >= 0 and _FILE.search(body[part.start : head].lstrip(b" \t\r\n")):
            return body[head + 4 : part.stop]
        start = end
    raise Refused(400, 'The form has no field "image". Send the image as that field, or as the body itself.')


def read_upload(content: bytes, trained: TrainedModel, limits: Limits, folder: Path) -> Num[ndarray, "h w c"]:
    """Returns the pixels of an image that was sent, as the model's bands have them.

    Its size is looked at before its pixels are unpacked.

    Args:
      content: of the file.
      trained: whose bands it must have.
      limits: of pixels.
      folder: where the file is put while it is read.

    Raises:
      Refused: it is no image, too large, or of other bands.
    """
    if not content:
        raise Refused(400, "The body is empty. Send an image as the body, or as the field image of a form.")
    with tempfile.NamedTemporaryFile(dir=folder, suffix=_suffix(content)) as file:
        file.write(content)
        file.flush()
        try:
            known = readers.header(file.name)
            if known.height * known.width > limits.pixels:
                raise Refused(
                    413,
                    f"The image is {known.width}x{known.height} (width x height), {known.height * known.width} pixels;"
                    f" this server takes {limits.pixels} at most. Send it in parts, or smaller.",
                )
            if known.pages > 1:
                raise Refused(400, f"The file holds {known.pages} images, expected one. Send each by itself.")
            with saying_what_to_lower("The image", "Send it in parts, or smaller."):
                image, _ = read_for(file.name, None, trained.bands)
                return as_stored(image, trained.bands)
        except OutOfMemory as error:
            raise Refused(413, str(error)) from None
        except UserError as error:
            status = 413 if isinstance(error, TooLarge) else 400
            said = f"{error.what} {REMEDY}" if isinstance(error, Unreadable) and status == 400 else str(error)
            raise Refused(status, said.replace(file.name, "The image")) from None


def _suffix(content: bytes) -> str:
    """The extension that chooses a reader; Pillow's formats are told apart by their content."""
    if opening.is_tiff(content):
        return ".tif"
    return ".npy" if content.startswith(b"\x93NUMPY") else ".png"
