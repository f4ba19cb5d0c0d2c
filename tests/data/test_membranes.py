"""The embedded membranes: the same everywhere, as wide as they say, and between any two cells."""

import subprocess
import sys
import zlib

import numpy as np
import pytest
from scipy import ndimage

from jaxseg.checks import UserError
from jaxseg.data.membranes import CELL, MEMBRANE, PITCH, WIDTH, _cells, membranes

DIGEST = """
import zlib
from jaxseg.data.membranes import membranes
splits = membranes(size=64).splits
print([zlib.crc32(splits[s][i][k].tobytes()) for s in ("train", "val") for i in (0, 5) for k in ("image", "label")])
"""


def test_an_image_depends_on_seed_split_and_index_alone():
    splits = membranes(size=64).splits
    here = [zlib.crc32(splits[s][i][k].tobytes()) for s in ("train", "val") for i in (0, 5) for k in ("image", "label")]
    there = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout
    assert str(here) == there.strip()
    others = [membranes(size=64, seed=1).splits["train"][0], splits["train"][1], splits["val"][0]]
    first = membranes(size=64, train=7, val=3).splits["train"][0]  # the counts do not matter
    np.testing.assert_array_equal(first["image"], splits["train"][0]["image"])
    for key in ("image", "label"):
        assert all((first[key] != other[key]).any() for other in others)


def test_a_membrane_lies_between_any_two_cells():
    """Two pixels of class cell that share an edge are of one cell, so that connected regions are cells."""
    source = membranes().splits["train"]
    for index in range(10):
        cells = _cells(np.random.default_rng([0, zlib.crc32(b"train"), index]), 128)
        inside = source[index]["label"] == CELL
        for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
            both = inside[a] & inside[b]
            assert both.any()
            np.testing.assert_array_equal(cells[a][both], cells[b][both])


def test_membranes_are_as_wide_as_they_say_and_cells_as_large():
    source = membranes(size=256).splits["train"]
    labels = np.stack([source[i]["label"] for i in range(6)])
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {CELL, MEMBRANE}
    assert 0.12 < (labels == MEMBRANE).mean() < 0.32
    depth = np.stack([ndimage.distance_transform_edt(label) for label in labels])
    ridge = depth == ndimage.maximum_filter(depth, (0, 3, 3))
    widths = 2 * depth[ridge & (depth > 0)] - 1  # of pixels: 2 px have depth 1, 5 px depth 3
    assert WIDTH[0] / 2 <= np.percentile(widths, 5)
    assert np.percentile(widths, 95) <= WIDTH[1] + 2  # where three meet there is more
    area = (labels == CELL).sum() / sum(ndimage.label(label == CELL)[1] for label in labels)
    assert 0.3 * PITCH**2 < area < PITCH**2


def test_membranes_are_dark_and_other_things_are_as_dark():
    source = membranes().splits["val"]
    records = [source[i] for i in range(30)]
    gray, label = (np.stack([record[key] for record in records]) for key in ("image", "label"))
    assert np.ptp(gray, axis=-1).max() == 0
    gray = gray[..., 0].astype(np.float32)
    membrane, cell = (gray[label == kind] for kind in (MEMBRANE, CELL))
    assert cell.mean() - membrane.mean() > 30
    found = max(np.mean([(membrane < t).mean(), (cell >= t).mean()]) for t in range(40, 220, 5))
    assert 0.7 < found < 0.93, "a threshold should say something, but not suffice"


def test_wear_changes_the_image_alone():
    clean, worn = (membranes(size=96, wear=w).splits["val"] for w in (0, 2))
    for i in range(5):
        np.testing.assert_array_equal(clean[i]["label"], worn[i]["label"])
    grain = [
        np.mean([np.abs(np.diff(s[i]["image"][..., 0].astype(int), axis=0)).mean() for i in range(5)])
        for s in (clean, worn)
    ]
    assert grain[1] > 2 * grain[0]


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match="size=16"):
        membranes(size=16)
    with pytest.raises(UserError, match="wear"):
        membranes(wear=3)
    with pytest.raises(IndexError):
        membranes(val=2).splits["val"][2]
