"""Labels of many classes, of one, and what is said of those that cannot be right; see test_dataset.py for the rest."""

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.data import Dataset, check_dataset, palette_colors
from jaxseg.data.labels import Relabeled, count_values, replace_values

RNG = np.random.default_rng(0)


class Fixed(list):
    """A source of given labels."""

    def __getitem__(self, index):
        label = np.asarray(super().__getitem__(index))
        return {"image": np.zeros((*label.shape, 3), np.uint8), "label": label, "name": f"r{index}", "file": "f.png"}


class Windowed(Fixed):
    """That reads windows too."""

    def size(self, index):
        return self[index]["label"].shape

    def read(self, index, window):
        top, left, height, width = window
        record = self[index]
        return {**record, **{k: record[k][top : top + height, left : left + width] for k in ("image", "label")}}


def complaint(label, classes=3, ignore=255, **options):
    with pytest.raises(UserError) as caught:
        Relabeled(Fixed([label]), classes, ignore, **options)[0]
    return str(caught.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("view", [lambda a: a, lambda a: a[::2, 1::3], lambda a: a.T])
def test_values_are_counted_and_replaced(dtype, view):
    label = view(RNG.choice([0, 3, 7, 200], (40, 50)).astype(dtype))
    found, counts = count_values(label)
    expected = np.unique(label, return_counts=True)
    np.testing.assert_array_equal(found, expected[0])
    np.testing.assert_array_equal(counts, expected[1])
    for new in (np.arange(4, dtype=np.uint8), np.arange(4, dtype=np.uint16) + 300):
        replaced = replace_values(label, found, new)
        np.testing.assert_array_equal(replaced, new[np.searchsorted(found, label)])
        assert replaced.dtype == new.dtype


def test_up_to_65534_classes():
    label = np.array([[0, 300, 65533, 65535]], np.uint16)
    out = Relabeled(Fixed([label]), 65534, 65535)[0]["label"]
    assert out.dtype == np.uint16
    np.testing.assert_array_equal(out, label)
    assert "got 65534" in complaint(np.array([[65534]], np.uint16), 65534, 65535)
    assert Relabeled(Fixed([label % 256]), 255, 255)[0]["label"].dtype == np.uint8


def test_one_class_is_labeled_0_and_1():
    np.testing.assert_array_equal(Relabeled(Fixed([np.array([[0, 1, 255]])]), 1, 255)[0]["label"], [[0, 1, 255]])
    assert "expected class ids 0 to 1 or 255" in complaint(np.array([[2]]), 1)


def test_windows_are_relabeled_where_the_source_reads_them():
    label = RNG.integers(1, 4, (9, 11)).astype(np.uint8)
    source = Relabeled(Windowed([label]), 3, 255, offset=-1)
    assert source.size(0) == (9, 11)
    record = source.read(0, window=(2, 3, 4, 5))
    np.testing.assert_array_equal(record["label"], label[2:6, 3:8] - 1)
    assert "file" not in record
    assert not hasattr(Relabeled(Fixed([label]), 3, 255), "read")
    assert not hasattr(Relabeled(Fixed([label]), 3, 255), "size")


def test_an_offset_is_offered_only_if_the_ids_then_fit():
    assert "set label_offset=-1;" in complaint(np.array([[1, 3]]))
    assert "set label_offset=-7;" in complaint(np.array([[7, 9, 255]]))
    for wrong in ([[1, 4]], [[7, 26]], [[0, 7]]):
        assert "label_offset" not in complaint(np.array(wrong))
    assert "label_offset" not in complaint(np.array([[7, 26001]]))
    assert "These look like ids of objects" in complaint(np.array([[7, 26001]]))


def test_masks_of_0_and_another_value():
    message = complaint(np.array([[0, 128]], np.uint8), 2)
    assert (
        'If 128 stands for a class, say so in classes.json: {"classes": ["...", {"name": "...", "values": [128]}]}'
        in message
    )
    assert '{"ignore": 254, "classes": [{"name": "...", "values": [255]}]}' in complaint(np.array([[0, 255]]), 1, 9)


def test_interpolated_labels():
    """A mask with soft edges, and none that only has more classes than are named."""
    soft = np.zeros((40, 40), np.uint8)
    soft[:, 20:] = 254
    soft[:, 18:22] = np.array([50, 101, 152, 203])
    assert "looks interpolated (antialiased): resize labels with nearest" in complaint(soft, 2)
    assert "interpolated" not in complaint(RNG.integers(0, 34, (40, 40)), 3)
    assert "interpolated" not in complaint(RNG.integers(0, 255, (40, 40)), 3)


def dataset(labels, classes, ignore=255, **fields):
    source = Relabeled(Fixed(labels), classes, ignore)
    names = tuple("abc"[:classes])
    return Dataset("test", names, palette_colors(classes), {"val": source}, ignore, **fields)


def test_what_labels_say_together():
    binary = [np.array([[0, 255]], np.uint8)] * 6
    for classes in (1, 2):
        with pytest.raises(UserError, match="hold 0 and 255 only, and 255 is ignored: .* would never be learned"):
            check_dataset(dataset(binary, classes), "val")
    check_dataset(dataset([*binary, np.array([[1]])], 2), "val", seconds=0)  # a longer look finds the class
    check_dataset(dataset(binary, 2, values=((0,), (1,))), "val")  # classes.json says what stands for the class
    check_dataset(dataset(binary, 3), "val")
    with pytest.warns(UserWarning, match="hold 255 only, which is ignored: nothing is learned or scored there"):
        check_dataset(dataset([np.array([[255]])], 3), "val")
    with pytest.raises(UserError, match="hold the class 'a' and no pixel that is not of it"):
        check_dataset(dataset([np.array([[1, 255]])], 1), "val")
