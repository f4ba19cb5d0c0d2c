"""Files that cannot be opened are said to be what they are, and none is waited for."""

import os
import socket
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxseg.checks import TooLarge, UserError
from jaxseg.data import readers
from jaxseg.data.readers import geo

PIXELS = np.zeros((6, 8), np.uint8)


def refusal(path, read=readers.read_image):
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    return message


@pytest.mark.parametrize("read", [readers.read_image, readers.read_label, readers.header])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy", "a.jpg", "a.nii", "a.dcm"])
def test_things_that_are_no_files(tmp_path, name, read):
    path = tmp_path / name
    os.mkfifo(path)
    assert "is a named pipe (FIFO), expected a file" in refusal(path, read)
    path.unlink()
    (tmp_path / "gone").symlink_to("x")
    path.symlink_to("nowhere")
    assert "is a link to nowhere, which does not exist" in refusal(path, read)
    path.unlink()
    path.mkdir()
    assert "is a folder, expected a file" in refusal(path, read)
    path.rmdir()
    assert "does not exist" in refusal(path, read)
    path.write_bytes(b"")
    assert "it is empty (0 bytes)" in refusal(path, read)


def test_sockets_devices_and_circles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
        assert "is a socket" in refusal("s.png")
    (tmp_path / "null.png").symlink_to("/dev/null")
    assert "is a device" in refusal(tmp_path / "null.png")
    (tmp_path / "circle.png").symlink_to("circle.png")
    assert "a link in a circle" in refusal(tmp_path / "circle.png")


@pytest.mark.parametrize(
    "content,words",
    [
        (b"some notes\nof mine", "it is text, no image"),
        ("Grüße, " .encode() * 200, "it is text, no image"),
        (b"<!DOCTYPE html><html>404", "it is a web page (HTML)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "it is a pointer of Git LFS"),
        (b"%PDF-1.5\x00\xff", "it is a PDF document"),
        (b"\x89HDF\r\n\x1a\n\0\0", "it is an HDF5 file"),
        (b"\x00\x00\x00\x18ftypheic\0\0\0\0", "it is a HEIC or AVIF image"),
        (b"\x93NUMPY\x01\x00", "name it .npy"),
        (b"\x01\x02\xfe\xff" * 50, "of no image format that is known here (01 02 fe ff"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_files_of_another_kind(tmp_path, content, words, name):
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert words in message
    assert "damaged" not in message


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "wide.tif", "a.npy", "a.gif"])
def test_damaged_files(tmp_path, name):
    path = tmp_path / name
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80)).astype(np.uint8)
    if name == "a.npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels.astype(np.uint16) if name == "wide.tif" else pixels).save(path)
    readers.read_image(path)
    path.write_bytes(path.read_bytes()[:-900])
    assert "is damaged or cut short" in refusal(path)


def test_a_tiff_of_another_name(tmp_path):
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    Image.fromarray(pixels).save(tmp_path / "a.png", format="TIFF")
    np.testing.assert_array_equal(readers.read_image(tmp_path / "a.png")[..., 0], pixels)
    Image.fromarray(PIXELS + 7).save(tmp_path / "b.tif", format="PNG")
    assert (readers.read_image(tmp_path / "b.tif") == 7).all()


def test_196_megapixels(tmp_path):
    """More than twice Pillow's own limit; above a gigapixel, what to do is said before anything is unpacked."""
    Image.new("1", (14000, 14000), 1).save(tmp_path / "huge.png")
    assert readers.header(tmp_path / "huge.png").height == 14000
    label = readers.read_label(tmp_path / "huge.png")
    assert label.shape == (14000, 14000)
    assert label[-1, -1] == 1
    data = bytearray((tmp_path / "huge.png").read_bytes())
    data[16:24] = struct.pack(">II", 40000, 40000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "more.png").write_bytes(data)
    message = refusal(tmp_path / "more.png")
    assert "is 40000x40000 (width x height), 1600 megapixels" in message
    data[16:24] = struct.pack(">II", 100000, 100000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "most.png").write_bytes(data)
    with pytest.raises(TooLarge, match=r"has more pixels than are read .* Cut it into tiles"):
        readers.header(tmp_path / "most.png")
    assert "Cut it into tiles" in message
    assert "damaged" not in message


def test_color_png_of_16_bits(tmp_path, monkeypatch):
    """Pillow would keep the upper byte of each channel."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(12)) for _ in range(2))
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))
    image = readers.read_image(tmp_path / "a.png")
    assert image.dtype == np.uint16
    assert image[1].tolist() == [[0x0001, 0x0203, 0x0405], [0x0607, 0x0809, 0x0A0B]]
    monkeypatch.setitem(sys.modules, "rasterio", None)
    monkeypatch.setattr(geo, "is_installed", lambda: False)
    assert "of which Pillow keeps 8. Save it as TIFF" in refusal(tmp_path / "a.png")
