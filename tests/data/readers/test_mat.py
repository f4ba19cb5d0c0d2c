"""SBD's label files, as SciPy writes them and as nobody should."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from jaxseg.checks import Unreadable, UserError
from jaxseg.data import readers


def write(path, label, *, compressed=True, **others):
    values = {
        "Boundaries": np.array([scipy.sparse.csc_matrix(np.eye(3, dtype=bool)), 1], object),
        "Segmentation": label,
        "CategoriesPresent": np.unique(label),
    }
    scipy.io.savemat(path, {**others, "GTcls": values}, do_compression=compressed)
    return path


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind, shape, name, *parts):
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, head + element(1, name) + b"".join(parts))


def gtcls(segmentation, shape=(1, 1), length=16):
    small = struct.pack("<HHi", 5, 4, length)
    return matrix(2, shape, b"GTcls", small, element(1, b"Segmentation\0\0\0\0"), segmentation)


def file(path, *elements):
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + b"".join(elements))
    return path


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype, shape", [("u1", (5, 7)), ("f8", (1, 6)), ("i4", (6, 1)), ("u2", (1, 1))])
def test_labels_are_read_as_scipy_writes_them(tmp_path, compressed, dtype, shape):
    label = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    path = write(tmp_path / "a.mat", label, compressed=compressed, before="text", another=np.ones((2, 2)))
    read = readers.read_label(path)
    assert read.shape == shape
    np.testing.assert_array_equal(read, label)
    assert (readers.header(path).height, readers.header(path).width) == shape


def test_a_file_without_the_array(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"GTcls": {"Other": 1}, "Segmentation": np.ones((3, 3))})
    with pytest.raises(UserError, match=r"holds no GTcls\.Segmentation"):
        readers.read_label(tmp_path / "a.mat")
    scipy.io.savemat(tmp_path / "a.mat", {"GTcls": {"Segmentation": "words"}})
    with pytest.raises(UserError, match=r"holds no GTcls\.Segmentation"):
        readers.read_label(tmp_path / "a.mat")
    write(tmp_path / "a.mat", np.ones((2, 3, 4), np.uint8))
    with pytest.raises(UserError, match=r"has the shape \(2, 3, 4\), expected height x width"):
        readers.read_label(tmp_path / "a.mat")
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(600))
    with pytest.raises(UserError, match="level 7.3"):
        readers.read_label(tmp_path / "a.mat")


def test_the_file_of_the_tests_below_reads(tmp_path):
    label = matrix(9, (2, 3), b"", element(2, bytes([1, 4, 2, 5, 3, 6])))
    whole = file(tmp_path / "a.mat", gtcls(label))
    np.testing.assert_array_equal(readers.read_label(whole), [[1, 2, 3], [4, 5, 6]])
    packed = file(tmp_path / "b.mat", struct.pack("<II", 15, len(data := zlib.compress(gtcls(label)))) + data)
    np.testing.assert_array_equal(readers.read_label(packed), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    "elements, message",
    [
        ([gtcls(matrix(9, (2**15, 2**15), b"", element(2, bytes(64))))], "cannot reshape"),
        ([gtcls(matrix(9, (-1, 2), b"", element(2, bytes(64)))[:-8])], "is cut short"),
        ([struct.pack("<II", 14, 2**32 - 8)], "an element of 4294967288 bytes is cut short"),
        ([gtcls(b"", length=-1)], "holds no GTcls"),
        ([gtcls(b"", length=0)], "holds no GTcls"),
        ([gtcls(matrix(9, (1, 1), b"", element(2, b"\1")), shape=(2**31 - 1, 2**31 - 1))], "holds no GTcls"),
        ([matrix(1, (2**31 - 1, 2**31 - 1), b"GTcls")], "holds no GTcls"),
        (["bomb"], "unpacks to more than 67 MB"),
    ],
)
def test_files_that_claim_to_hold_much(tmp_path, elements, message):
    if elements == ["bomb"]:
        packer = zlib.compressobj(9)
        data = b"".join(packer.compress(bytes(2**20)) for _ in range(100)) + packer.flush()
        elements = [struct.pack("<II", 15, len(data)) + data]
    path = file(tmp_path / "a.mat", *elements)
    tracemalloc.start()
    try:
        with pytest.raises((Unreadable, UserError), match=message):
            readers.read_label(path)
        assert tracemalloc.get_traced_memory()[1] < 2e8
    finally:
        tracemalloc.stop()
