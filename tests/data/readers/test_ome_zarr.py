"""Zarr and OME-Zarr: the pixels that zarr itself reads, by windows, and what is wrong with a folder."""

import json
import os
import pickle
import sys

import numpy as np
import pytest
import zarr

from jaxseg.checks import UserError
from jaxseg.data import readers
from jaxseg.data.pairs import walk


def stack(shape, dtype="uint16"):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def write(path, values, **options):
    zarr.save_array(str(path), values, **options)
    return path


def ome(path, values, axes, *, version="0.5", labels=()):
    group = zarr.open_group(str(path), mode="w", zarr_format=3 if version == "0.5" else 2)
    array = group.create_array("0", shape=values.shape, dtype=values.dtype, chunks=(1,) * (values.ndim - 2) + (8, 8))
    array[:] = values
    scales = [{"axes": [{"name": a} for a in axes], "datasets": [{"path": "0"}], "version": version}]
    told = {"multiscales": scales, "omero": {"channels": [{"label": name} for name in labels]}}
    group.attrs.update({"ome": told} if version == "0.5" else told)
    return path


@pytest.mark.parametrize("shape,pages", [((20, 30), 1), ((20, 30, 5), 1), ((4, 20, 30, 5), 4)])
def test_arrays(tmp_path, shape, pages):
    values = stack(shape)
    path = write(tmp_path / "a.zarr", values)
    known = readers.header(path)
    bands = 1 if len(shape) == 2 else 5
    assert (known.pages, known.height, known.width, known.bands, known.dtype) == (pages, 20, 30, bands, "uint16")
    whole = values.reshape(pages, 20, 30, -1)[-1]
    np.testing.assert_array_equal(readers.read_image(path, page=pages - 1), whole)
    np.testing.assert_array_equal(readers.read_image(path, page=pages - 1, window=(3, 5, 10, 7)), whole[3:13, 5:12])
    assert readers.pages(path) == pages


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["tczyx", "czyx", "zyxc", "yx", "cxy"])
def test_ome_images(tmp_path, axes, version):
    sizes = {"t": 2, "c": 3, "z": 4, "y": 20, "x": 30}
    values = stack([sizes[axis] for axis in axes])
    path = ome(tmp_path / "b.zarr", values, axes, version=version, labels=("DAPI", "GFP", "RFP"))
    full = values
    for axis in "tczyx":
        if axis not in axes:
            full = np.expand_dims(full, 0)
            axes = axis + axes
    full = full.transpose([axes.index(axis) for axis in "tzyxc"])
    pages = full.reshape(-1, *full.shape[2:])
    known = readers.header(path)
    assert (known.pages, known.height, known.width) == (len(pages), 20, 30)
    if full.shape[-1] == 3:
        assert known.names == ("DAPI", "GFP", "RFP")
        np.testing.assert_array_equal(readers.read_image(path, bands=(2, 0)), pages[0][..., [2, 0]])
    for page, expected in enumerate(pages):
        np.testing.assert_array_equal(readers.read_image(path, page=page, window=(1, 2, 15, 9)), expected[1:16, 2:11])


def test_gray_of_8_bits_becomes_rgb_and_labels_are_ids(tmp_path):
    values = stack((20, 30), "uint8")
    path = write(tmp_path / "a.zarr", values)
    np.testing.assert_array_equal(readers.read_image(path), np.repeat(values[..., None], 3, 2))
    np.testing.assert_array_equal(readers.read_label(path), values)
    with pytest.raises(UserError, match="has 3 bands. A label has one"):
        readers.read_label(write(tmp_path / "b.zarr", stack((9, 9, 3))))


def test_a_folder_is_found_as_an_image(tmp_path):
    write(tmp_path / "deep" / "a.zarr", stack((9, 9)))
    (tmp_path / "deep" / "b.png").write_bytes(b"x")
    assert [file.name for file in walk(tmp_path)] == ["a.zarr", "b.png"]


def test_it_is_predicted_by_windows(tmp_path):
    from jaxseg.inference import Predictor
    from jaxseg.inference.image_list import find_below, name_outputs
    from jaxseg.inference.stream import predict_stream, streamed
    from tests.inference.strided import image, model

    write(tmp_path / "in" / "a.zarr", image(100, 70))
    predictor = Predictor(model(), tile=32)
    found, _ = find_below([str(tmp_path / "in")], tmp_path / "out")
    (page,) = name_outputs(found, tmp_path / "out")
    predict_stream(predictor, page, streamed(predictor, page, least=1))
    label = readers.read_label(tmp_path / "out" / "a_label.tif")
    np.testing.assert_array_equal(label, predictor(image(100, 70)))


def test_what_is_no_image_is_an_error(tmp_path, monkeypatch):
    group = zarr.open_group(str(tmp_path / "g.zarr"), mode="w")
    group.create_array("0", shape=(9, 9), dtype="uint8")
    with pytest.raises(UserError, match="is a Zarr group, but no OME-Zarr image"):
        readers.header(tmp_path / "g.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(UserError, match="empty.zarr does not read"):
        readers.header(tmp_path / "empty.zarr")
    with pytest.raises(UserError, match=r"shape \(3,\), expected \[h, w\]"):
        readers.header(write(tmp_path / "c.zarr", stack((3,))))
    with pytest.raises(UserError, match="values of the type complex64, expected numbers"):
        readers.header(write(tmp_path / "d.zarr", stack((3, 3), "complex64")))
    path = write(tmp_path / "e.zarr", stack((3, 3)))
    told = json.loads((path / "zarr.json").read_text())
    told["shape"], told["chunk_grid"]["configuration"]["chunk_shape"] = [10**6, 10**6], [10**6, 10**6]
    (path / "zarr.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"chunks of 2000.0 GB, each of which is read whole"):
        readers.read_image(path, window=(0, 0, 2, 2))
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match=r"is read by zarr, which is not installed: pip install 'jaxseg\[zarr\]'"):
        readers.header(path)


@pytest.mark.parametrize("key", ["filters", "compressor"])
def test_chunks_that_are_pickles_are_not_opened(tmp_path, key):
    """Zarr 2 lets a file name the codec "pickle", which runs what a chunk says."""
    path = write(tmp_path / "a.zarr", stack((4, 4), "uint8"), zarr_format=2)
    told = json.loads((path / ".zarray").read_text())
    told[key] = [{"id": "pickle", "protocol": 5}] if key == "filters" else {"id": "pickle", "protocol": 5}
    told["chunks"] = [4, 4]
    (path / ".zarray").write_text(json.dumps(told))
    (path / "0.0").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(UserError, match="pickle"):  # by zarr itself, from 3.1 on
        readers.read_image(path)
    assert not (tmp_path / "ran").exists()
    other = {"id": "astype", "encode_dtype": "|u1", "decode_dtype": "|u1"}
    told |= {"filters": [other], "compressor": None} if key == "filters" else {"filters": None, "compressor": other}
    (path / ".zarray").write_text(json.dumps(told))
    with pytest.raises(UserError, match="is coded by 'astype', which is not read here"):
        readers.read_image(path)


def test_the_codecs_of_shards_are_looked_at(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), shape=(16, 16), chunks=(4, 4), shards=(8, 8), dtype="uint8")[:] = stack((16, 16))
    assert readers.read_image(path).shape == (16, 16, 3)
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text.replace('"zstd"', '"numcodecs.pickle"'))
    with pytest.raises(UserError, match="pickle"):
        readers.read_image(path)


@pytest.mark.parametrize("name", ["c/0/0", "zarr.json", ".zarray"])
def test_a_pipe_in_the_folder_does_not_wait(tmp_path, name):
    path = write(tmp_path / "a.zarr", stack((4, 4)), zarr_format=2 if name == ".zarray" else 3)
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(UserError, match="is no regular file"):
        readers.read_image(path)


def test_what_would_fill_the_memory_is_refused(tmp_path):
    path = write(tmp_path / "a.zarr", stack((4, 4)))
    with open(path / "zarr.json", "r+b") as file:
        file.truncate(2**25)
    with pytest.raises(UserError, match="has more than 16777216 bytes"):
        readers.header(path)
    bands = zarr.create_array(str(tmp_path / "b.zarr"), shape=(8, 8, 10**9), chunks=(8, 8, 1), dtype="uint8")
    assert bands.nbytes > 10**10
    with pytest.raises(UserError, match="has 1000000000 bands, expected up to 65535"):
        readers.header(tmp_path / "b.zarr")
    zarr.create_array(str(tmp_path / "c.zarr"), shape=(30000, 30000, 3), chunks=(512, 512, 3), dtype="uint8")
    with pytest.raises(UserError, match="says that it holds 2700 MB"):
        readers.read_image(tmp_path / "c.zarr")
    with pytest.raises(UserError, match="says that it holds 300 MB"):
        readers.read_image(tmp_path / "c.zarr", window=(0, 0, 10000, 10000))
    assert readers.read_image(tmp_path / "c.zarr", window=(5, 5, 20, 30)).shape == (20, 30, 3)


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_more_pages_than_a_folder_can_hold(tmp_path):
    path = write(tmp_path / "a.zarr", stack((4, 8, 8, 3)))
    file = next(path / name for name in ("zarr.json", ".zarray") if (path / name).exists())
    told = json.loads(file.read_text())
    told["shape"][0] = 10**12
    file.write_text(json.dumps(told))
    with pytest.raises(UserError, match="says that it holds 1000000000000 pages"):
        readers.header(path)
