"""When data is that of a run."""

import dataclasses
import json

import numpy as np
import pytest

from jaxseg.data import create_dataset
from jaxseg.data.bands import Bands
from jaxseg.data.dataset import Dataset
from jaxseg.experiment.identity import describe_data, differences


def _dataset(count=4, **fields):
    base = create_dataset("shapes", size=16, train=count, val=2)
    return dataclasses.replace(base, **fields)


def _texts(there, here):
    return [found.text for found in differences(there, describe_data(here, ["train", "val"]))]


@pytest.fixture
def stored():
    """As dataset.json has it."""
    return json.loads(json.dumps(describe_data(_dataset(), ["train", "val"])))


def test_the_same_data_differs_in_nothing(stored):
    assert _texts(stored, _dataset()) == []
    assert stored["splits"] == {"train": {"count": 4}, "val": {"count": 2}}  # drawn: nothing but a number to tell


CLASSES = _dataset().classes


@pytest.mark.parametrize(
    "fields, words, fatal",
    [
        ({"count": 3}, "split 'train': 4 images there, 3 here", False),
        ({"classes": CLASSES[::-1]}, "classes: the same in another order, background, disk, ", False),
        ({"classes": ("ground", *CLASSES[1:])}, "classes: other names, ", False),
        ({"classes": (*CLASSES, "x"), "palette": ((0, 0, 0),) * 8}, "classes: 7 there, 8 here", True),
        ({"ignore": 200}, "ignore label: 255 there, 200 here", False),
        ({"values": tuple((i,) for i in range(7))}, "values of the classes in label files: None there", False),
        ({"bands": Bands(("b0", "b1", "b2"))}, "bands: ", True),
        ({"bands": Bands(dtype="uint16")}, "type of the bands: 'uint8' there, 'uint16' here", True),
    ],
)
def test_each_difference_is_named(stored, fields, words, fatal):
    (found,) = differences(stored, describe_data(_dataset(**fields), ["train", "val"]))
    assert words in found.text
    assert found.fatal == fatal


def test_what_an_older_run_did_not_write_is_not_compared(stored):
    for key in ("splits", "bands"):
        del stored[key]
    assert _texts(stored, _dataset(3)) == []


def test_a_damaged_description_is_no_crash(stored):
    stored["splits"], stored["bands"] = [3], "x"
    assert _texts(stored, _dataset()) == []
    assert _texts({"splits": {"train": 5}}, _dataset()) == ["split 'train': None images there, 4 here"]


def test_digests_of_files_are_compared():
    class Files:
        def __init__(self, **digests):
            self.digests = digests

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return {"image": np.zeros((1, 1, 3), np.uint8)}

        def identity(self):
            return self.digests

    def described(**digests):
        return describe_data(Dataset("x", ("a",), ((0, 0, 0),), {"val": Files(**digests)}), ["val"])

    there = described(names="a", sizes="b", sample="c")
    assert there["splits"]["val"] == {"count": 2, "names": "a", "sizes": "b", "sample": "c"}
    (found,) = differences(there, described(names="a", sizes="x", sample="y"))
    assert "split 'val': as many images, 2, but files of other sizes and files with other content" in found.text
