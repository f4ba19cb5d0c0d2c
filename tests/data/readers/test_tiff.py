"""TIFF as other programs write it: GDAL's compressions and orders of bands, stacks, ImageJ's files, windows."""

import itertools

import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.data import readers
from jaxseg.data.readers import geo
from jaxseg.data.readers.stored import WindowError

RNG = np.random.default_rng(0)
SIZE = (70, 83)  # of which neither is a multiple of a tile


def values(bands, dtype):
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return RNG.normal(size=(*SIZE, bands)).astype(kind)
    low = -3000 if kind.kind == "i" else 0
    smooth = np.add.outer(np.arange(SIZE[0]) * 20, np.arange(SIZE[1]) * 30)[..., None] + RNG.integers(0, 50, bands)
    return (smooth % (250 if kind.itemsize == 1 else 6000) + low).astype(kind)


def write(path, pixels, **options):
    rasterio = pytest.importorskip("rasterio")
    height, width, count = pixels.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": pixels.dtype.name}
    with rasterio.open(path, "w", **profile, **options) as file:
        file.write(np.moveaxis(pixels, -1, 0))


KINDS = [
    (compress, predictor, dtype)
    for compress, predictor, dtype in itertools.product(
        ("none", "lzw", "deflate", "packbits", "zstd", "lzma"), (1, 2, 3), ("uint8", "uint16", "int16", "float32")
    )
    if predictor == 1 or (compress in ("lzw", "deflate", "zstd") and (predictor == 3) == (dtype == "float32"))
]


@pytest.mark.parametrize("compress,predictor,dtype", KINDS)
def test_every_order_of_bands_and_bytes(tmp_path, compress, predictor, dtype):
    """Five bands next to each other and apart, in strips and tiles, whole and a window, against what was written."""
    pixels = values(5, dtype)
    for interleave, tiled, endianness in itertools.product(("pixel", "band"), (False, True), ("little", "big")):
        path = tmp_path / f"{interleave}{tiled}{endianness}.tif"
        tiles = {"blockxsize": 32, "blockysize": 16} if tiled else {"blockysize": 9}
        more = {} if compress == "none" else {"compress": compress}
        if predictor > 1:
            more["predictor"] = predictor
        write(path, pixels, interleave=interleave, tiled=tiled, endianness=endianness, **tiles, **more)
        image = readers.read_image(path)
        np.testing.assert_array_equal(image, pixels)
        assert image.dtype == np.dtype(dtype)
        assert image.dtype.isnative
        part = readers.read_image(path, window=(20, 31, 33, 40), bands=(4, 1))
        np.testing.assert_array_equal(part, pixels[20:53, 31:71, [4, 1]])
    known = readers.header(path)
    assert (known.pages, known.height, known.width, known.bands, known.dtype) == (1, *SIZE, 5, dtype)


def test_what_gdal_says_of_bands(tmp_path):
    import rasterio

    pixels = values(3, "int16")
    profile = {"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "count": 3, "dtype": "int16", "nodata": -9999}
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as file:
        file.write(np.moveaxis(pixels, -1, 0))
        for i, name in enumerate(("B02", "B03", "B08")):
            file.set_band_description(i + 1, name)
    known = readers.header(tmp_path / "a.tif")
    assert known.names == ("B02", "B03", "B08")
    assert known.nodata == -9999


def test_overviews_and_masks_are_no_pages(tmp_path):
    import rasterio
    from rasterio.enums import Resampling

    pixels = values(4, "uint16")
    write(tmp_path / "a.tif", pixels, tiled=True, blockxsize=16, blockysize=16)
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.build_overviews([2, 4], Resampling.nearest)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.write_mask(np.eye(*SIZE, dtype=bool))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) > 3
    assert readers.pages(tmp_path / "a.tif") == readers.header(tmp_path / "a.tif").pages == 1
    np.testing.assert_array_equal(readers.read_image(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize("photometric", ["ycbcr", "rgb"])
def test_jpeg_tiles(tmp_path, monkeypatch, photometric):
    """Whole by Pillow, windows by rasterio; both see the same."""
    pixels = np.broadcast_to(np.arange(0, 166, 2, dtype=np.uint8)[:83, None], (*SIZE, 3))
    options = {"compress": "jpeg", "tiled": True, "blockxsize": 32, "blockysize": 32}
    write(tmp_path / "a.tif", pixels, photometric=photometric, interleave="pixel", **options)
    whole = readers.read_image(tmp_path / "a.tif")
    assert np.abs(whole.astype(int) - pixels).max() < 12
    asked = []
    monkeypatch.setattr(geo, "read", lambda *a, read=geo.read: asked.append(a) or read(*a))
    part = readers.read_image(tmp_path / "a.tif", window=(10, 20, 30, 40))
    assert np.abs(part.astype(int) - whole[10:40, 20:60]).max() <= 2  # two builds of libjpeg
    assert len(asked) == 1


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["uint16", "float32", "int16"])
def test_stacks(tmp_path, compression, dtype):
    stack = np.stack([values(1, dtype)[..., 0] + i for i in range(11)])
    tifffile.imwrite(tmp_path / "cell.tif", stack, photometric="minisblack", compression=compression)
    known = readers.header(tmp_path / "cell.tif")
    assert (known.pages, known.bands, known.dtype, known.names) == (11, 1, dtype, ("gray",))
    for page in (0, 7, 10):
        np.testing.assert_array_equal(readers.read_image(tmp_path / "cell.tif", page=page)[..., 0], stack[page])
    listed = readers.list_pages([tmp_path / "cell.tif"])
    assert listed[7] == (tmp_path / "cell.tif", 7, "cell[07]")
    assert len(listed) == 11
    with pytest.raises(UserError, match="holds 11 pages, counted from 0; there is no page 11"):
        readers.read_image(tmp_path / "cell.tif", page=11)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes,shape", [("ZCYX", (5, 3)), ("ZYX", (5,)), ("TZYX", (2, 3))])
def test_imagej(tmp_path, compression, axes, shape):
    """ImageJ's channels are bands; its slices and times are pages. Large files of it have one directory only."""
    pixels = RNG.integers(0, 4000, (*shape, *SIZE)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": axes}, compression=compression)
    pages = pixels.reshape(-1, 3, *SIZE) if "C" in axes else pixels.reshape(-1, 1, *SIZE)
    known = readers.header(tmp_path / "a.tif")
    assert (known.pages, known.bands) == pages.shape[:2]
    assert readers.pages(tmp_path / "a.tif") == len(pages)
    image = readers.read_image(tmp_path / "a.tif", page=4, window=(3, 5, 20, 30))
    np.testing.assert_array_equal(image, np.moveaxis(pages[4], 0, -1)[3:23, 5:35])


def test_one_directory_for_many_images(tmp_path):
    """What ImageJ writes above 4 GB: the pixels of all images in one block after the first directory."""
    pixels = RNG.integers(0, 4000, (6, *SIZE)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "ZYX"}, truncate=True)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == 1
    assert readers.pages(tmp_path / "a.tif") == 6
    np.testing.assert_array_equal(readers.read_image(tmp_path / "a.tif", page=5)[..., 0], pixels[5])


def test_stacks_of_color(tmp_path):
    pixels = RNG.integers(0, 255, (4, *SIZE, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    assert readers.header(tmp_path / "a.tif").pages == 4
    np.testing.assert_array_equal(readers.read_image(tmp_path / "a.tif", page=2), pixels[2])
    gray = pixels[..., 0]
    tifffile.imwrite(tmp_path / "b.tif", gray, photometric="minisblack")  # gray of 8 bits becomes RGB
    np.testing.assert_array_equal(readers.read_image(tmp_path / "b.tif", page=3), np.repeat(gray[3][..., None], 3, 2))


def test_pages_that_are_not_alike(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((8, 9), np.uint8))
        file.write(np.zeros((4, 5), np.uint8))
    with pytest.raises(UserError, match=r"2 pages that are not alike \(9x8, 5x4; width x height\)"):
        readers.header(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_wide_values(tmp_path, orientation):
    """As Pillow turns a PNG; of an uncompressed TIFF it garbles a quarter turn (Pillow 13)."""
    from PIL import ImageOps

    pixels = RNG.integers(0, 255, (6, 8)).astype(np.uint8)
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(np.uint16), extratags=tag)
    tifffile.imwrite(tmp_path / "b.tif", pixels, extratags=tag)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(tmp_path / "c.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "c.png")))
    image = readers.read_image(tmp_path / "a.tif")[..., 0]
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(readers.read_image(tmp_path / "b.tif")[..., 0], expected)
    np.testing.assert_array_equal(readers.read_label(tmp_path / "a.tif", window=(1, 2, 3, 4)), expected[1:4, 2:6])
    known = readers.header(tmp_path / "a.tif")
    assert ((known.height, known.width), known.turned) == (expected.shape, orientation > 1)


def test_a_fourth_band_is_kept_or_transparency(tmp_path):
    """Near infrared that is said to be a band stays; that is said to be transparency, but is none, is an error."""
    pixels = RNG.integers(0, 255, (40, 50, 4)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "band.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(readers.read_image(tmp_path / "band.tif"), pixels)
    assert readers.header(tmp_path / "band.tif").names == ("red", "green", "blue", "band3")
    tifffile.imwrite(tmp_path / "said.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    with pytest.raises(UserError, match=r"band 3 is transparency, but it looks like an image.*bands=\(0, 1, 2, 3\)"):
        readers.read_image(tmp_path / "said.tif")
    np.testing.assert_array_equal(readers.read_image(tmp_path / "said.tif", bands=(3, 0)), pixels[..., [3, 0]])
    pixels[..., 3] = 255
    tifffile.imwrite(tmp_path / "alpha.tif", pixels, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(readers.read_image(tmp_path / "alpha.tif"), pixels[..., :3])


def test_float64_is_rounded(tmp_path):
    pixels = RNG.normal(size=SIZE)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    image = readers.read_image(tmp_path / "a.tif")
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., 0], pixels.astype(np.float32))


def test_only_the_tiles_of_a_window_are_read(tmp_path):
    """Everything else of the file is destroyed first."""
    pixels = values(3, "uint16")
    write(tmp_path / "a.tif", pixels, tiled=True, blockxsize=16, blockysize=16, compress="deflate", interleave="pixel")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages.first
        across = -(-SIZE[1] // 16)
        kept = {y * across + x for y in (1, 2) for x in (2, 3)}
        spans = [
            (o, n) for i, (o, n) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)) if i not in kept
        ]
    with open(tmp_path / "a.tif", "r+b") as file:
        for offset, size in spans:
            file.seek(offset)
            file.write(b"x" * size)
    np.testing.assert_array_equal(readers.read_image(tmp_path / "a.tif", window=(16, 32, 32, 32)), pixels[16:48, 32:64])
    with pytest.raises(UserError, match="does not read"):
        readers.read_image(tmp_path / "a.tif", window=(15, 32, 32, 32))
    with pytest.raises(WindowError, match="leaves the image"):
        readers.read_image(tmp_path / "a.tif", window=(60, 0, 11, 5))


def test_labels(tmp_path):
    ids = RNG.integers(0, 300, SIZE).astype(np.uint16)
    for name, stored in (("u", ids), ("f", ids.astype(np.float32)), ("i", ids.astype(np.int32))):
        tifffile.imwrite(tmp_path / f"{name}.tif", stored)
        label = readers.read_label(tmp_path / f"{name}.tif")
        np.testing.assert_array_equal(label, ids)
        assert label.dtype.kind in "ui"
    tifffile.imwrite(tmp_path / "half.tif", ids + np.float32(0.5))
    with pytest.raises(UserError, match=r"half.tif holds the number \d+.5\. Labels are whole numbers"):
        readers.read_label(tmp_path / "half.tif")
    tifffile.imwrite(tmp_path / "five.tif", values(5, "uint8"), photometric="minisblack", planarconfig="contig")
    with pytest.raises(UserError, match="has 5 bands of uint8. A label has one band"):
        readers.read_label(tmp_path / "five.tif")


def test_palette_stacks(tmp_path):
    """Labels of several pages in palette keep their colors."""
    ids = RNG.integers(0, 3, (2, 6, 8)).astype(np.uint8)
    pages = []
    for page in ids:
        image = Image.fromarray(page).convert("P")
        image.putpalette([9, 8, 7, 60, 50, 40, 1, 2, 3])
        pages.append(image)
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    label = readers.read_stored_label(tmp_path / "a.tif", page=1)
    np.testing.assert_array_equal(label.values, ids[1])
    assert label.palette[:3].tolist() == [[9, 8, 7], [60, 50, 40], [1, 2, 3]]
    np.testing.assert_array_equal(readers.read_image(tmp_path / "a.tif", page=1), label.palette[ids[1]])
