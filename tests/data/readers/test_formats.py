"""Every format but TIFF: what is read is what was written, page by page and window by window."""

import functools
import gc
import subprocess
import sys
import time
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.data import readers
from jaxseg.data.readers import geo
from jaxseg.data.readers.stored import WindowError

RNG = np.random.default_rng(0)
WINDOW = (2, 3, 4, 6)


def part(pixels):
    return pixels[2:6, 3:9]


@pytest.mark.parametrize("dtype,expected", [("u1", "uint8"), (">u2", "uint16"), ("i2", "int16"), ("f8", "float32")])
def test_npy(tmp_path, dtype, expected):
    pixels = RNG.integers(0, 200, (3, 9, 11, 4)).astype(dtype)
    np.save(tmp_path / "a.npy", pixels[0])
    np.save(tmp_path / "stack.npy", pixels)
    np.save(tmp_path / "flat.npy", pixels[0, ..., 0])
    image = readers.read_image(tmp_path / "a.npy")
    np.testing.assert_array_equal(image, pixels[0])
    assert image.dtype == expected
    assert image.dtype.isnative
    image[:] = 0  # it is the caller's
    np.testing.assert_array_equal(readers.read_image(tmp_path / "stack.npy", page=2, window=WINDOW), part(pixels[2]))
    np.testing.assert_array_equal(readers.read_image(tmp_path / "a.npy", bands=(3, 1)), pixels[0][..., [3, 1]])
    known = readers.header(tmp_path / "stack.npy")
    assert (known.pages, known.height, known.width, known.bands, known.dtype) == (3, 9, 11, 4, expected)
    assert readers.read_image(tmp_path / "flat.npy").shape == (9, 11, 3 if expected == "uint8" else 1)
    assert readers.header(tmp_path / "flat.npy").bands == (3 if expected == "uint8" else 1)


def test_npy_labels(tmp_path):
    ids = RNG.integers(0, 9, (3, 9, 11))
    np.save(tmp_path / "stack.npy", ids)
    np.save(tmp_path / "one.npy", ids[0] > 4)
    np.save(tmp_path / "colors.npy", np.stack([ids[0]] * 3, -1).astype(np.uint8))
    assert readers.pages(tmp_path / "stack.npy", label=True) == 3
    np.testing.assert_array_equal(readers.read_label(tmp_path / "stack.npy", page=1, window=WINDOW), part(ids[1]))
    np.testing.assert_array_equal(readers.read_label(tmp_path / "one.npy"), ids[0] > 4)
    assert readers.read_label(tmp_path / "one.npy").dtype == np.uint8
    assert readers.read_label(tmp_path / "colors.npy").shape == (9, 11, 3)
    np.save(tmp_path / "what.npy", np.zeros(7))
    with pytest.raises(UserError, match=r"shape \(7,\), expected \[h, w\]"):
        readers.read_image(tmp_path / "what.npy")
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(UserError, match="objects of Python"):
        readers.read_image(tmp_path / "objects.npy")


def test_numbers_that_no_record_holds(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[2**24 + 1, 0]]))
    with pytest.raises(UserError, match="int64 with values up to 16777217"):
        readers.read_image(tmp_path / "a.npy")
    np.save(tmp_path / "c.npy", np.zeros((3, 4), complex))
    with pytest.raises(UserError, match="type complex128"):
        readers.read_image(tmp_path / "c.npy")


@pytest.mark.parametrize("number", [np.inf, 2.0**32 + 1, np.uint64(2**64 - 1)])
def test_labels_that_no_class_id_is(tmp_path, number):
    """As a class id each would be another number: -2147483648, or -1."""
    np.save(tmp_path / "a.npy", np.array([[0, number]], np.asarray(number).dtype))
    with pytest.raises(UserError, match="Labels are whole numbers from -"):
        readers.read_label(tmp_path / "a.npy")


@pytest.mark.parametrize("end", [".nii", ".nii.gz"])
def test_nifti(tmp_path, end):
    """Slices along the third axis are pages, a fourth axis are bands; a slope makes floats."""
    nibabel = pytest.importorskip("nibabel")
    volume = RNG.integers(-900, 2000, (9, 11, 5)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / f"ct{end}")
    known = readers.header(tmp_path / f"ct{end}")
    assert (known.pages, known.height, known.width, known.bands, known.dtype) == (5, 9, 11, 1, "int16")
    for page in (0, 4):
        image = readers.read_image(tmp_path / f"ct{end}", page=page)
        np.testing.assert_array_equal(image[..., 0], volume[:, :, page])
        assert image.dtype == np.int16
    image = readers.read_image(tmp_path / f"ct{end}", page=3, window=WINDOW)
    np.testing.assert_array_equal(image[..., 0], part(volume[:, :, 3]))
    assert readers.list_pages([tmp_path / f"ct{end}"])[4][1:] == (4, "ct[4]")

    scans = RNG.normal(size=(9, 11, 5, 4)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(scans, np.eye(4)), tmp_path / f"mr{end}")
    assert readers.header(tmp_path / f"mr{end}").bands == 4
    np.testing.assert_array_equal(
        readers.read_image(tmp_path / f"mr{end}", page=2, bands=(1, 3)), scans[:, :, 2, [1, 3]]
    )

    scaled = nibabel.Nifti1Image(volume, np.eye(4))
    scaled.header.set_slope_inter(0.5, 3)
    nibabel.save(scaled, tmp_path / f"scaled{end}")
    stored = nibabel.load(tmp_path / f"scaled{end}")
    image = readers.read_image(tmp_path / f"scaled{end}", page=1)
    assert image.dtype == readers.header(tmp_path / f"scaled{end}").dtype == "float32"
    np.testing.assert_allclose(image[..., 0], stored.get_fdata()[:, :, 1], rtol=1e-6)

    nibabel.save(nibabel.Nifti1Image((volume % 4).astype(np.uint8), np.eye(4)), tmp_path / f"seg{end}")
    np.testing.assert_array_equal(readers.read_label(tmp_path / f"seg{end}", page=2), volume[:, :, 2] % 4)
    assert readers.header(tmp_path / f"seg{end}", label=True).pages == 5


def dicom(path, pixels, **fields):
    """Writes a DICOM file of a scanner, uncompressed."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in fields.items():
        setattr(data, name, value)
    data.HighBit = data.BitsStored - 1
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)


def test_dicom(tmp_path):
    """Hounsfield units of a CT; the window is offered; MONOCHROME1 is turned around; frames are pages."""
    pixels = RNG.integers(0, 4096, (9, 11)).astype(np.uint16)
    ct = {"BitsStored": 12, "RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    dicom(tmp_path / "ct.dcm", pixels, **ct)
    known = readers.header(tmp_path / "ct.dcm")
    assert (known.height, known.width, known.dtype, known.window) == (9, 11, "int16", (-160, 240))
    image = readers.read_image(tmp_path / "ct.dcm", window=WINDOW)
    assert image.dtype == np.int16
    np.testing.assert_array_equal(image[..., 0], part(pixels).astype(int) - 1024)
    np.testing.assert_array_equal(readers.read_label(tmp_path / "ct.dcm"), pixels)

    dicom(tmp_path / "half.dcm", pixels, BitsStored=12, RescaleSlope=0.5, RescaleIntercept=0)
    image = readers.read_image(tmp_path / "half.dcm")
    assert image.dtype == readers.header(tmp_path / "half.dcm").dtype == "float32"
    np.testing.assert_array_equal(image[..., 0], pixels / 2)

    dicom(tmp_path / "xray.dcm", pixels, BitsStored=12, PhotometricInterpretation="MONOCHROME1")
    image = readers.read_image(tmp_path / "xray.dcm")
    assert image.dtype == readers.header(tmp_path / "xray.dcm").dtype == "uint16"
    np.testing.assert_array_equal(image[..., 0], 4095 - pixels)

    frames = RNG.integers(0, 255, (4, 9, 11)).astype(np.uint8)
    dicom(tmp_path / "us.dcm", frames, NumberOfFrames=4)
    assert readers.pages(tmp_path / "us.dcm") == 4
    np.testing.assert_array_equal(
        readers.read_image(tmp_path / "us.dcm", page=3), np.repeat(frames[3][..., None], 3, 2)
    )


def test_gif(tmp_path):
    """One image, or frames that are pages."""
    ids = RNG.integers(0, 3, (3, 6, 8)).astype(np.uint8)
    Image.fromarray(ids[0]).save(tmp_path / "one.gif")
    np.testing.assert_array_equal(readers.read_label(tmp_path / "one.gif"), ids[0])
    palette = Image.fromarray(ids[0]).convert("P")
    palette.putpalette([9, 8, 7, 60, 50, 40, 1, 2, 3])
    palette.save(tmp_path / "colors.gif")
    stored = readers.read_stored_label(tmp_path / "colors.gif")
    np.testing.assert_array_equal(stored.palette[stored.values], np.array([[9, 8, 7], [60, 50, 40], [1, 2, 3]])[ids[0]])
    frames = [Image.fromarray(page * 100) for page in ids]
    frames[0].save(tmp_path / "three.gif", save_all=True, append_images=frames[1:])
    assert readers.pages(tmp_path / "three.gif") == 3
    with pytest.raises(UserError, match="holds 3 pages, expected one image"):
        readers.read_rgb(tmp_path / "three.gif")


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_animations_are_refused(tmp_path, name):
    frames = [Image.fromarray(RNG.integers(0, 255, (6, 8, 3)).astype(np.uint8)) for _ in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    for read in (readers.read_image, readers.read_label):
        with pytest.raises(UserError, match="is an animation of 3 pages"):
            read(tmp_path / name)


def test_bands_as_stored(tmp_path):
    pixels = RNG.integers(0, 255, (6, 8, 4)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(readers.read_image(tmp_path / "a.png"), pixels[..., :3])
    np.testing.assert_array_equal(readers.read_image(tmp_path / "a.png", bands=(3, 1)), pixels[..., [3, 1]])
    Image.fromarray(pixels[..., 0]).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(readers.read_image(tmp_path / "gray.png", bands=(0,)), pixels[..., :1])
    with pytest.raises(UserError, match=r"has 1 bands \(gray\), counted from 0; bands=\(1,\) asks for others"):
        readers.read_image(tmp_path / "gray.png", bands=(1,))


@pytest.mark.parametrize("window", [(3, 0, 4, 8), (0, 0, 6, 9), (-1, 0, 2, 2), (0, 0, 0, 1)])
def test_windows_lie_inside(tmp_path, window):
    pixels = RNG.integers(0, 255, (6, 8)).astype(np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for name in ("a.npy", "a.png"):
        for read in (readers.read_image, readers.read_label):
            with pytest.raises(WindowError, match="leaves the image of 6x8"):
                read(tmp_path / name, window=window)


def test_images_that_must_be_rgb(tmp_path):
    Image.fromarray(RNG.integers(0, 4000, (6, 8)).astype(np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"holds 1 bands \(gray\) of uint16, expected an RGB image of 8 bits"):
        readers.read_rgb(tmp_path / "a.png")
    assert readers.read_image(tmp_path / "a.png").dtype == np.uint16


def test_georeference(tmp_path):
    """Through a GeoTIFF and back; JPEG 2000 is read by the same library."""
    rasterio = pytest.importorskip("rasterio")
    place = geo.Georeference(rasterio.crs.CRS.from_epsg(32633).to_wkt(), (10.0, 0.0, 5e5, 0.0, -10.0, 5e6))
    ids = RNG.integers(0, 5, (40, 50)).astype(np.uint8)
    geo.write_geotiff(str(tmp_path / "a.tif"), ids, place, nodata=255)
    again = geo.georeference(str(tmp_path / "a.tif"))
    assert again.transform == place.transform
    assert rasterio.crs.CRS.from_wkt(again.crs) == rasterio.crs.CRS.from_epsg(32633)
    np.testing.assert_array_equal(readers.read_label(tmp_path / "a.tif"), ids)
    assert readers.header(tmp_path / "a.tif").nodata == 255
    pixels = RNG.integers(0, 3000, (40, 50, 3)).astype(np.uint16)
    profile = {"driver": "JP2OpenJPEG", "height": 40, "width": 50, "count": 3, "dtype": "uint16"}
    with rasterio.open(tmp_path / "b.jp2", "w", QUALITY=100, REVERSIBLE="YES", **profile) as file:
        file.write(np.moveaxis(pixels, -1, 0))
    np.testing.assert_array_equal(readers.read_image(tmp_path / "b.jp2", window=WINDOW), part(pixels))
    assert readers.header(tmp_path / "b.jp2").bands == 3


@pytest.mark.parametrize(
    "library,name,extra",
    [("nibabel", "a.nii", "medical"), ("pydicom", "a.dcm", "medical"), ("rasterio", "a.jp2", "geo")],
)
def test_a_missing_extra_is_named(tmp_path, library, name, extra):
    (tmp_path / name).write_bytes(b"\0" * 400)
    code = f"""
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
sys.modules["{library}"] = None
from jaxseg.data import readers
try:
    readers.read_image({str(tmp_path / name)!r})
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith(f"is read by {library}, which is not installed: pip install 'jaxseg[{extra}]'")


def test_npy_in_threads(tmp_path):
    """NumPy parses headers by Python's parser, which fails in CPython 3.11 where threads take turns in it."""
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), np.uint16))
    threshold, let_others = gc.get_threshold(), lambda *_: time.sleep(0)
    gc.set_threshold(5)  # the collector may hand over to another thread in the midst of parsing
    gc.callbacks.append(let_others)
    try:
        with ThreadPoolExecutor(8) as pool:
            heights = pool.map(lambda _: readers.header(tmp_path / "a.npy").height, range(100))
            assert set(heights) == {3}
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(let_others)


def test_threads_that_ask_for_places_leave_warnings_as_they_were(tmp_path):
    """rasterio warns of every file without a place, such as micrographs."""
    pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(geo.place_of, [str(path)] * 500)) == {None}
        assert (warnings.filters, [str(warning.message) for warning in caught]) == (before, [])


def test_a_nifti_of_one_slice_has_two_axes(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    pixels = RNG.integers(-900, 2000, (9, 11)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(pixels, np.eye(4)), tmp_path / "a.nii.gz")
    known = readers.header(tmp_path / "a.nii.gz")
    assert (known.pages, known.height, known.width, known.bands) == (1, 9, 11, 1)
    np.testing.assert_array_equal(readers.read_image(tmp_path / "a.nii.gz")[..., 0], pixels)


def test_a_nifti_without_a_slice_is_refused(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 11, 0), np.int16), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="holds no voxel: its header says that it is 9x11x0"):
        readers.header(tmp_path / "a.nii.gz")


def test_a_bit_that_turned_in_a_compressed_volume_is_noticed(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(RNG.integers(0, 99, (40, 40, 3)).astype(np.int16), np.eye(4)), path)
    damaged = bytearray(path.read_bytes())
    damaged[-8] ^= 1  # of the checksum at the end, as if a voxel had changed
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="CRC check failed.*damaged or cut short"):
        readers.read_image(path, page=1)


def test_the_units_of_a_multi_frame_dicom_are_stated_frame_by_frame(tmp_path):
    """Enhanced CT keeps slope and intercept in its functional groups, for all frames or for each."""
    pydicom = pytest.importorskip("pydicom")

    def group(slope, intercept):
        units, group = pydicom.Dataset(), pydicom.Dataset()
        units.RescaleSlope, units.RescaleIntercept = slope, intercept
        group.PixelValueTransformationSequence = [units]
        return group

    frames = RNG.integers(0, 4096, (3, 9, 11)).astype(np.uint16)
    fields = {"NumberOfFrames": 3, "BitsStored": 12}
    dicom(tmp_path / "ct.dcm", frames, **fields, SharedFunctionalGroupsSequence=[group(1, -1024)])
    image = readers.read_image(tmp_path / "ct.dcm", page=2)
    assert image.dtype == readers.header(tmp_path / "ct.dcm").dtype == "int16"
    np.testing.assert_array_equal(image[..., 0], frames[2].astype(int) - 1024)
    groups = [group(slope, 0) for slope in (1, 0.5, 2)]
    dicom(tmp_path / "pet.dcm", frames, **fields, PerFrameFunctionalGroupsSequence=groups)
    for page, slope in enumerate((1, 0.5, 2)):
        image = readers.read_image(tmp_path / "pet.dcm", page=page)
        assert image.dtype == readers.header(tmp_path / "pet.dcm").dtype == "float32"
        np.testing.assert_array_equal(image[..., 0], slope * frames[page])
    dicom(tmp_path / "odd.dcm", frames, **fields, PerFrameFunctionalGroupsSequence=groups[:2])
    for read in (readers.header, functools.partial(readers.read_image, page=2)):
        with pytest.raises(UserError, match="odd.dcm states units for 2 frames and has 3"):
            read(tmp_path / "odd.dcm")


def test_a_frame_of_a_dicom_is_read_without_the_others(tmp_path):
    """Else the time of hundreds of frames grows with their square."""
    frames = RNG.integers(0, 4096, (64, 256, 256)).astype(np.uint16)
    dicom(tmp_path / "a.dcm", frames, NumberOfFrames=64, BitsStored=12)
    tracemalloc.start()
    try:
        for page in (0, 40, 63):
            np.testing.assert_array_equal(readers.read_image(tmp_path / "a.dcm", page=page)[..., 0], frames[page])
        assert tracemalloc.get_traced_memory()[1] < frames.nbytes / 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("frames", [1, 3])
def test_dicom_colors_become_rgb_once(tmp_path, frames):
    """Ultrasound is stored as brightness and colors, by formulas of the standard (C.7.6.3.1.2)."""
    pydicom = pytest.importorskip("pydicom")
    colors = np.zeros((9, 11, 3), np.uint8)
    colors[:4], colors[4:] = (200, 30, 40), (20, 180, 90)
    stored = pydicom.pixels.convert_color_space(colors, "RGB", "YBR_FULL")
    fields = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL", "PlanarConfiguration": 0}
    dicom(tmp_path / "us.dcm", np.stack([stored] * frames), **fields, NumberOfFrames=frames, Rows=9, Columns=11)
    image = readers.read_image(tmp_path / "us.dcm", page=frames - 1)
    np.testing.assert_allclose(image.astype(int), colors, atol=1)


def test_monochrome1_keeps_the_units_that_it_states(tmp_path):
    """It says how to show values, not what they are: turned around, Hounsfield units would be others."""
    pixels = RNG.integers(0, 4096, (9, 11)).astype(np.uint16)
    ct = {"BitsStored": 12, "RescaleSlope": 1, "RescaleIntercept": -1024, "PhotometricInterpretation": "MONOCHROME1"}
    dicom(tmp_path / "ct.dcm", pixels, **ct)
    np.testing.assert_array_equal(readers.read_image(tmp_path / "ct.dcm")[..., 0], pixels.astype(int) - 1024)
