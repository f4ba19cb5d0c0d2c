"""The embedded pages: the same everywhere, all of their classes in them, and every mark labeled where it is."""

import subprocess
import sys
import zlib

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.data.pages import CLASSES, COVER, pages
from jaxseg.data.sheet import FIGURE, INK, TABLE, TEXT, TITLE

DIGEST = """
import zlib
from jaxseg.data.pages import pages
splits = pages(size=64).splits
print([zlib.crc32(splits[s][i][k].tobytes()) for s in ("train", "val") for i in (0, 5) for k in ("image", "label")])
"""


def test_a_page_depends_on_seed_split_and_index_alone():
    splits = pages(size=64).splits
    here = [zlib.crc32(splits[s][i][k].tobytes()) for s in ("train", "val") for i in (0, 5) for k in ("image", "label")]
    there = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout
    assert str(here) == there.strip()
    others = [pages(size=64, seed=1).splits["train"][0], splits["train"][1], splits["val"][0]]
    first = pages(size=64, train=7, val=3).splits["train"][0]  # the counts do not matter
    np.testing.assert_array_equal(first["image"], splits["train"][0]["image"])
    for key in ("image", "label"):
        assert all((first[key] != other[key]).any() for other in others)


def test_every_class_is_there_in_fair_shares():
    source = pages().splits["train"]
    labels = np.stack([source[i]["label"] for i in range(60)])
    share = np.bincount(labels.ravel(), minlength=256) / labels.size
    assert labels.dtype == np.uint8
    assert share[len(CLASSES) :].sum() == 0
    assert 0.6 < share[0] < 0.9
    assert share[1 : len(CLASSES)].min() > 0.004
    seen = [(labels == c).any(axis=(1, 2)).mean() for c in range(len(CLASSES))]
    assert min(seen) > 0.25, "every class is on a quarter of the pages"


def test_exactly_what_is_dark_is_labeled():
    """On a page without wear that nobody wrote on, a pixel outside of figures is labeled if and only if it is dark."""
    source, found = pages(wear=0).splits["train"], 0
    for i in range(60):
        image, label = source[i]["image"], source[i]["label"]
        if INK in label:
            continue
        found += 1
        dark = image[..., 0] <= 255 - COVER
        outside = label != FIGURE
        np.testing.assert_array_equal(dark[outside], (label > 0)[outside])
    assert found > 5


def test_wear_changes_the_image_alone():
    clean, worn = (pages(size=96, wear=w).splits["val"] for w in (0, 1.5))
    for i in range(5):
        np.testing.assert_array_equal(clean[i]["label"], worn[i]["label"])
    paper = [np.concatenate([s[i]["image"][s[i]["label"] == 0] for i in range(20)]) for s in (clean, worn)]
    assert np.median(paper[0]) == 255
    assert paper[1].std() > 2 * paper[0].std()


def test_print_is_not_told_by_its_color():
    source = pages().splits["train"]
    records = [source[i] for i in range(80)]
    image, label = (np.stack([r[k] for r in records]) for k in ("image", "label"))
    means = np.stack([image[label == c].mean(axis=0) for c in (TITLE, TEXT, TABLE)])
    assert np.ptp(means, axis=0).max() < 40
    gray = [np.ptp(r["image"].astype(int), axis=-1).max() == 0 for r in records]
    assert 0.3 < np.mean(gray) < 0.7


def test_type_has_the_same_size_in_all_images():
    """A larger image shows more of a page: about as large a share of it is text, at the same pitch of lines."""
    shares = []
    for size in (64, 192):
        source = pages(size=size).splits["train"]
        labels = np.stack([source[i]["label"] for i in range(40)])
        assert labels.shape[1:] == (size, size)
        strokes = (np.diff((labels == TEXT).astype(int), axis=2) == 1).sum() / (labels == TEXT).sum()
        shares.append(strokes)  # strokes a pixel of text: one over their width
    assert 0.8 < shares[0] / shares[1] < 1.25


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match="size=16"):
        pages(size=16)
    with pytest.raises(UserError, match="wear"):
        pages(wear=3)
    with pytest.raises(IndexError):
        pages(val=2).splits["val"][2]
