"""Volumes and stacks from strangers: headers that no image has, and small files that unfold."""

import gzip
import struct

import numpy as np
import pytest

from jaxseg.checks import Unreadable
from jaxseg.data import readers
from tests.data.readers.test_formats import dicom
from tests.data.test_hostile_files import little_memory

DICOM_FIELDS = [
    ({"Rows": None}, "its Rows is None, expected 1 to 65535"),
    ({"SamplesPerPixel": None}, "its SamplesPerPixel is None"),
    ({"SamplesPerPixel": 0}, "its SamplesPerPixel is 0"),
    ({"BitsStored": 60000}, "its BitsStored is 60000, expected 1 to 64"),
    ({"NumberOfFrames": -3}, "says that it holds -3 pages"),
    ({"NumberOfFrames": 2 * 10**9}, "says that it holds 2000000000 pages"),
    ({"RescaleSlope": float("nan")}, "its rescale slope and intercept are nan and 0.0"),
    ({"RescaleIntercept": float("inf")}, "its rescale slope and intercept are 1.0 and inf"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("fields,said", DICOM_FIELDS)
def test_a_dicom_of_no_image_that_can_be(tmp_path, fields, said):
    pydicom = pytest.importorskip("pydicom")
    dicom(tmp_path / "a.dcm", np.ones((9, 11), np.uint16))
    data = pydicom.dcmread(tmp_path / "a.dcm")
    for name, value in fields.items():
        setattr(data, name, value)
    data.save_as(tmp_path / "a.dcm")
    for read in (readers.header, readers.read_image, readers.read_label):
        with pytest.raises(Unreadable, match=said):
            read(tmp_path / "a.dcm")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_window_that_is_none_keeps_no_dicom_from_being_read(tmp_path):
    dicom(tmp_path / "a.dcm", np.ones((9, 11), np.uint16), WindowCenter="471.25", WindowWidth="80")
    assert readers.header(tmp_path / "a.dcm").window == (431.25, 511.25)
    (tmp_path / "a.dcm").write_bytes((tmp_path / "a.dcm").read_bytes().replace(b"471.25", b"xyz.25"))
    assert readers.header(tmp_path / "a.dcm").window is None


def test_more_pages_than_a_file_can_hold(tmp_path):
    """Each page is listed: a small file that says that it has billions would take all memory."""
    nibabel = pytest.importorskip("nibabel")
    data = bytearray(nibabel.Nifti2Image(np.zeros((8, 8, 2), np.int16), np.eye(4)).to_bytes())
    for axis, size, said in ((3, 10**12, "says that it holds 1000000000000 pages"), (1, -5, "says that it is -5x8x2")):
        changed = data.copy()
        struct.pack_into("<q", changed, 16 + 8 * axis, size)
        (tmp_path / "a.nii").write_bytes(changed)
        with pytest.raises(Unreadable, match=said):
            readers.header(tmp_path / "a.nii")


def test_a_compressed_volume_that_unfolds(tmp_path):
    """Of the notes before the voxels, and of what follows them, no more is unpacked than any file may take."""
    nibabel = pytest.importorskip("nibabel")
    path, blank = tmp_path / "a.nii.gz", bytes(10**7)
    data = bytearray(nibabel.Nifti1Image(np.zeros((8, 8, 2), np.int16), np.eye(4)).to_bytes())
    with gzip.open(path, "wb", 1) as file:
        file.write(data)
        file.writelines([blank] * 22)
    assert readers.header(path).pages == 2
    with pytest.raises(Unreadable, match="holds far more than the 608 bytes that its header says"), little_memory():
        readers.read_image(path)
    struct.pack_into("<f", data, 108, 3e8)  # where the voxels begin
    data[348] = 1  # notes follow
    path.write_bytes(gzip.compress(data))
    with pytest.raises(Unreadable, match="far more than images and labels do"):
        readers.header(path)


def test_a_deflated_dicom_that_unfolds(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    path = tmp_path / "a.dcm"
    pixels = np.arange(99, dtype=np.uint16).reshape(9, 11)
    dicom(path, pixels)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    data.save_as(path)
    np.testing.assert_array_equal(readers.read_image(path)[..., 0], pixels)
    data.PixelData = bytes(22 * 10**7)
    data.save_as(path)
    for read in (readers.header, readers.read_image):
        with pytest.raises(Unreadable, match="far more than images and labels do"), little_memory():
            read(path)
