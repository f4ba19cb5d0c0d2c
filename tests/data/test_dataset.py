"""The record, relabeling and the checks before training."""

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.data import Dataset, check_dataset, create_dataset, palette_colors
from jaxseg.data.dataset import Relabeled


class Fixed(list):
    """A source of given labels."""

    def __getitem__(self, index):
        label = np.asarray(super().__getitem__(index))
        return {"image": np.zeros((*label.shape, 3), np.uint8), "label": label, "name": f"r{index}", "file": "f.png"}


def dataset(labels, classes=3, ignore=255):
    names = tuple("abcdefghij"[:classes])
    source = Relabeled(Fixed(labels), classes, ignore)
    return Dataset("test", names, palette_colors(classes), {"train": source}, ignore)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_relabeling(dtype):
    label = np.array([[0, 1, 2], [3, 9, 255]], dtype)
    out = Relabeled(Fixed([label]), 3, 255, offset=-1, also_ignored=(0, 9))[0]
    assert out["label"].dtype == np.uint8
    assert out["label"].tolist() == [[255, 0, 1], [2, 255, 255]]
    assert out["name"] == "r0"
    assert "file" not in out


def test_large_ids_are_moved_into_range():
    out = Relabeled(Fixed([np.array([[1000, 1002]], np.uint16)]), 3, 255, offset=-1000)[0]
    assert out["label"].tolist() == [[0, 2]]


@pytest.mark.parametrize(
    "label,offset,words",
    [
        ([[0, 7]], 0, r"f.png: expected class ids 0 to 2 or 255 \(ignored\), got 7 \(the file holds 0, 7\)"),
        ([[1, 3]], 0, "set label_offset=-1"),
        ([[0, 1]], -1, r"after the offset -1, got 0 .* set label_ignore=\(0,\)"),
    ],
)
def test_labels_out_of_range_are_named(label, offset, words):
    with pytest.raises(UserError, match=words):
        Relabeled(Fixed([np.array(label, np.uint8)]), 3, 255, offset=offset)[0]


@pytest.mark.parametrize(
    "fields,words",
    [
        ({"ignore": 2}, "ignore label 2, expected 3 to 255"),
        ({"ignore": 256}, "ignore label 256"),
        ({"palette": ((0, 0, 0),)}, "3 classes but 1 colors"),
        ({"classes": (), "palette": ()}, "0 classes"),
    ],
)
def test_records_that_contradict_themselves(fields, words):
    good = {"name": "x", "classes": ("a", "b", "c"), "palette": palette_colors(3), "splits": {}}
    with pytest.raises(UserError, match=words):
        Dataset(**{**good, **fields})


def test_checks_before_training():
    good = dataset([np.zeros((2, 2), np.uint8)] * 3)
    check_dataset(good, "train")
    with pytest.raises(UserError, match="Unknown split 'trian'. Did you mean 'train'"):
        check_dataset(good, "trian")
    with pytest.raises(UserError, match="'train' of the data set 'test' is empty"):
        check_dataset(dataset([]), "train")
    labels = [np.zeros((2, 2), np.uint8)] * 50
    labels[37] = np.full((2, 2), 9, np.uint8)
    with pytest.raises(UserError, match="got 9"):
        check_dataset(dataset(labels), "train", seconds=5)


def test_binary_labels_that_ignore_their_foreground_are_pointed_out():
    masks = dataset([np.array([[0, 255]], np.uint8)], classes=2)
    with pytest.raises(UserError, match='class 1 would never be learned.*"values": \\[255\\]'):
        check_dataset(masks, "train")


def test_names_and_options_are_checked():
    with pytest.raises(UserError, match="Unknown data set 'shape'. Did you mean 'shapes'"):
        create_dataset("shape")
    with pytest.raises(UserError, match="Unknown option 'siez' of data set 'shapes'. Did you mean 'size'"):
        create_dataset("shapes", siez=3)
    with pytest.raises(UserError, match="needs the folder"):
        create_dataset("folder")
    with pytest.raises(UserError, match="takes no root"):
        create_dataset("shapes", "/data")


def test_palette_is_steady_and_distinct():
    colors = palette_colors(255)
    assert colors[:20] == palette_colors(20)
    assert len(set(colors)) == 255
