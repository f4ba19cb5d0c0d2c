"""What every data set promises, asked of each entry of DATASETS; see jaxseg/data/__init__.py."""

import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import DATASETS, check_dataset, create_dataset
from tests.data.trees import TREES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of small files, for the data sets that read one."""
    root = tmp_path_factory.mktemp("folder")
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
        for i in range(count):
            size = (10 + i, 12)
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / split / "images" / f"p{i}.jpg")
            Image.fromarray(rng.integers(0, 3, size, np.uint8)).save(root / split / "labels" / f"p{i}.png")
    (root / "classes.json").write_text('{"classes": ["a", "b", "c"]}')
    return str(root)


@pytest.fixture(params=sorted(DATASETS))
def dataset(request, folder, tmp_path_factory):
    if request.param in TREES:
        folder = str(tmp_path_factory.mktemp(request.param))
        TREES[request.param][0](Path(folder))
    needs_root = "root" in inspect.signature(DATASETS[request.param]).parameters
    return create_dataset(request.param, folder if needs_root else "")


def test_the_record_is_whole(dataset):
    assert dataset.num_classes == len(dataset.classes) == len(dataset.palette) == len(set(dataset.classes))
    assert all(len(color) == 3 and all(0 <= v <= 255 for v in color) for color in dataset.palette)
    assert dataset.num_classes <= dataset.ignore <= 255
    assert {"train", "val"} <= set(dataset.splits)
    for split in dataset.splits:
        check_dataset(dataset, split, seconds=0)


def test_records_are_as_promised(dataset):
    for source in dataset.splits.values():
        names = set()
        for i in (0, 1, len(source) - 1):
            record = source[i]
            image, label = record["image"], record["label"]
            assert image.dtype == label.dtype == np.uint8
            assert image.shape == (*label.shape, 3)
            assert ((label < dataset.num_classes) | (label == dataset.ignore)).all()
            assert isinstance(record["name"], str)
            assert "/" not in record["name"]
            names.add(record["name"])
        assert len(names) == len({0, 1, len(source) - 1})


def test_records_are_the_same_again_and_elsewhere(dataset):
    source = dataset.splits["train"]
    copy = pickle.loads(pickle.dumps(source))
    assert len(copy) == len(source)
    for i in (1, 0):
        first, again, elsewhere = source[i], source[i], copy[i]
        for key in first:
            np.testing.assert_array_equal(first[key], again[key])
            np.testing.assert_array_equal(first[key], elsewhere[key])
        first["image"][:] = 0  # records are the caller's to change
        assert source[i]["image"].any()


def test_indices_end(dataset):
    source = dataset.splits["val"]
    with pytest.raises(IndexError):
        source[len(source)]
