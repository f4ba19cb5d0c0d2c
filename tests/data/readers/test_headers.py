"""Headers of PNG files: known without decoding pixels, wherever EXIF stands in the file."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from jaxseg.data import readers


def _save(path, orientation=None):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    values = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(values).save(path, **({"exif": exif} if orientation else {}))
    return path


def _move_exif_to_the_end(path):
    data = path.read_bytes()
    at = data.index(b"eXIf") - 4
    (length,) = struct.unpack(">I", data[at : at + 4])
    chunk = data[at : at + length + 12]
    assert zlib.crc32(chunk[4:-4]) == struct.unpack(">I", chunk[-4:])[0]
    rest = data[:at] + data[at + len(chunk) :]
    end = rest.index(b"IEND") - 4
    path.write_bytes(rest[:end] + chunk + rest[end:])


@pytest.mark.parametrize(
    "orientation, turned, size", [(None, False, (40, 60)), (3, True, (40, 60)), (6, True, (60, 40))]
)
@pytest.mark.parametrize("at_end", [False, True])
def test_the_turn_is_known(tmp_path, orientation, turned, size, at_end):
    path = _save(tmp_path / "a.png", orientation)
    if at_end and orientation:
        _move_exif_to_the_end(path)
    known = readers.header(path)
    assert ((known.height, known.width), known.turned) == (size, turned)
    assert readers.read_image(path).shape[:2] == size


def test_no_pixels_are_decoded(tmp_path, monkeypatch):
    path = _save(tmp_path / "a.png", 6)
    plain = _save(tmp_path / "b.png")

    def load(image):
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    assert readers.header(path).turned
    assert not readers.header(plain).turned
