"""Images, labels and classes.json from strangers: small files that ask for much, and text that steers terminals."""

import contextlib
import json
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from jaxseg.checks import Unreadable, UserError
from jaxseg.data import create_dataset, readers
from jaxseg.data.dataset import Dataset, palette_colors
from jaxseg.data.legend import numbered, read_legend


@contextlib.contextmanager
def little_memory():
    tracemalloc.start()
    try:
        yield
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2e8


def png(path, width, height, depth, color, pixels=b""):
    """Writes a PNG that says that it has this size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


@pytest.mark.parametrize("size, depth, color", [(30_000, 1, 0), (12_000, 8, 0), (20_000, 8, 2)])
@pytest.mark.parametrize("read", [readers.read_image, readers.read_label])
def test_a_small_png_of_a_giant_image(tmp_path, size, depth, color, read):
    if read is readers.read_label and size == 12_000:
        size = 16_000
    with pytest.raises(Unreadable, match="times as much: far more than images and labels do"):
        read(png(tmp_path / "a.png", size, size, depth, color, bytes(10**6)))


def test_a_png_whose_part_is_longer_than_the_file(tmp_path):
    data = bytearray(png(tmp_path / "a.png", 4, 4, 8, 0, bytes(20)).read_bytes())
    data[33:37] = struct.pack(">I", 2**32 - 1)
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(Unreadable, match="says that it is longer than the file"):
        readers.read_image(tmp_path / "a.png")


def test_a_small_tiff_of_a_giant_image(tmp_path):
    import tifffile

    file = tmp_path / "a.tif"
    tifffile.imwrite(file, np.zeros((64, 64), np.uint16), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(file, mode="r+") as changed:
        for tag in ("ImageWidth", "ImageLength"):
            changed.pages[0].tags[tag].overwrite(30_000)
    with pytest.raises(Unreadable, match="far more than images and labels do"):
        readers.read_image(file)
    tifffile.imwrite(file, np.zeros((64, 64), np.uint16), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(file, mode="r+") as changed:
        for tag in ("TileWidth", "TileLength"):
            changed.pages[0].tags[tag].overwrite(60_000)
    with pytest.raises(UserError), little_memory():
        readers.read_image(file, window=(0, 0, 4, 4))


@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_whose_pages_are_chained_in_a_circle(tmp_path, big):
    import tifffile

    file = tmp_path / "a.tif"
    tifffile.imwrite(file, np.zeros((3, 16, 16), np.uint16), photometric="minisblack", bigtiff=big, metadata=None)
    assert readers.header(file).pages == 3
    with tifffile.TiffFile(file) as whole:
        first, last = whole.pages[0].offset, whole.pages[2]
        place = last.offset + (8 + 20 * len(last.tags) if big else 2 + 12 * len(last.tags))
    data = bytearray(file.read_bytes())
    data[place : place + 4] = struct.pack("<I", first)
    file.write_bytes(data)
    for read in (readers.header, readers.read_image, readers.pages):
        with pytest.raises(Unreadable, match="chained in a circle"):
            read(file)


def test_a_strip_that_unfolds(tmp_path):
    import tifffile

    file = tmp_path / "a.tif"
    tifffile.imwrite(file, np.zeros((16, 16), np.uint16), compression="zlib", rowsperstrip=16)
    with tifffile.TiffFile(file, mode="r+") as changed:
        page = changed.pages[0]
        bomb = zlib.compress(bytes(300_000_000), 1)
        end = changed.filehandle.size
        page.tags["StripOffsets"].overwrite(end)
        page.tags["StripByteCounts"].overwrite(len(bomb))
    with open(file, "ab") as handle:
        handle.write(bomb)
    with pytest.raises(Unreadable, match="holds far more than the 512 expected"), little_memory():
        readers.read_image(file)


@pytest.mark.parametrize(
    "text", ["[" * 10**5, '{"classes": [{"id": 1e400, "name": "a"}]}', "\udcff", '{"ignore": 1e999, "classes": ["a"]}']
)
def test_a_classes_json_that_is_none(tmp_path, text):
    (tmp_path / "classes.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=r"classes.json does not read"):
        read_legend(tmp_path / "classes.json", None)


def test_a_classes_json_of_endless_length(tmp_path):
    with open(tmp_path / "classes.json", "wb") as file:
        file.truncate(2**33)
    with pytest.raises(UserError, match="it has more than 16 MiB"):
        read_legend(tmp_path / "classes.json", None)


@pytest.mark.parametrize("count", [10**9, 0, -1])
def test_a_number_of_classes_that_no_label_holds(count, tmp_path):
    with pytest.raises(UserError, match="expected 1 to 65534"):
        numbered(count)
    (tmp_path / "val" / "images").mkdir(parents=True)
    with pytest.raises(UserError, match="expected 1 to 65534"):
        create_dataset("folder", str(tmp_path), num_classes=count)


def test_names_of_classes_are_one_line_and_unlike(tmp_path):
    names = ("\x1b[31mroad", "car\r\nerror: none", "plain")
    dataset = Dataset("x", names, palette_colors(3), {})
    assert dataset.classes == (" [31mroad", "car  error: none", "plain")
    with pytest.raises(UserError, match="several classes of the name plain: their scores could not be told apart"):
        Dataset("x", ("plain", "other", "plain"), palette_colors(3), {})
    (tmp_path / "classes.json").write_text(json.dumps(["a", "b", "a"]))
    (tmp_path / "val" / "images").mkdir(parents=True)
    with pytest.raises(UserError, match="several classes of the name a"):
        create_dataset("folder", str(tmp_path))
