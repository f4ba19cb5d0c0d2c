"""The embedded set: the same everywhere, and all of its classes in it."""

import subprocess
import sys
import zlib

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.data.shapes import CLASSES, shapes

DIGEST = """
import zlib
from jaxseg.data.shapes import shapes
splits = shapes(size=48).splits
print([zlib.crc32(splits[s][i]["image"].tobytes()) for s in ("train", "val") for i in (0, 5)])
"""


def test_a_image_depends_on_seed_split_and_index_alone():
    splits = shapes(size=48).splits
    here = [zlib.crc32(splits[s][i]["image"].tobytes()) for s in ("train", "val") for i in (0, 5)]
    there = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True).stdout
    assert str(here) == there.strip()
    others = [shapes(size=48, seed=1).splits["train"][0], splits["train"][1], splits["val"][0]]
    first = shapes(size=48, train=7, val=3).splits["train"][0]  # the counts do not matter
    np.testing.assert_array_equal(first["image"], splits["train"][0]["image"])
    assert all((first["image"] != other["image"]).any() for other in others)


def test_every_class_is_there_in_fair_shares():
    source = shapes(size=64).splits["train"]
    counts = sum(np.bincount(source[i]["label"].ravel(), minlength=256) for i in range(80))
    share = counts / counts.sum()
    assert counts[len(CLASSES) :].sum() == 0
    assert 0.5 < share[0] < 0.85
    assert share[1 : len(CLASSES)].min() > 0.015


def test_border_is_ignored_and_lies_between_classes():
    plain, border = (shapes(size=64, border=b).splits["val"][3] for b in (0, 3))
    np.testing.assert_array_equal(plain["image"], border["image"])
    band = border["label"] == 255
    assert 0.01 < band.mean() < 0.4
    np.testing.assert_array_equal(border["label"][~band], plain["label"][~band])


def test_border_is_half_on_either_side_of_the_outline():
    plain, border = (shapes(size=96, border=b).splits["val"] for b in (0, 6))
    outside = inside = 0
    for i in range(6):
        band, shape = border[i]["label"] == 255, plain[i]["label"] > 0
        outside, inside = outside + (band & ~shape).sum(), inside + (band & shape).sum()
    assert 0.7 < outside / inside < 1.5  # corners are wider outside, and shapes that touch share their band


def test_classes_share_their_colors():
    """No class is told by its color: the mean colors of the classes are alike over many images."""
    source = shapes(size=48, train=200).splits["train"]
    records = [source[i] for i in range(200)]
    image, label = (np.stack([r[k] for r in records]) for k in ("image", "label"))
    means = np.stack([image[label == c].mean(axis=0) for c in range(1, len(CLASSES))])
    assert means.std(axis=0).max() < 16


def test_color_tells_the_class_if_asked_to():
    """Of each class, the mean direction of its pixels' hues: told apart with color=1, all alike without."""

    def directions(color):
        source = shapes(size=48, train=60, noise=0, color=color).splits["train"]
        records = [source[i] for i in range(60)]
        image, label = (np.stack([r[k] for r in records]) for k in ("image", "label"))
        red, green, blue = np.moveaxis(image.astype(float), -1, 0)
        hue = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)
        return [np.exp(1j * hue[label == c]).mean() for c in range(1, len(CLASSES))]

    for i, direction in enumerate(directions(1.0)):
        assert abs(direction) > 0.9
        assert abs(np.angle(direction * np.exp(-2j * np.pi * i / 6))) < 0.2
    assert max(map(abs, directions(0.0))) < 0.5


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match="size=8"):
        shapes(size=8)
    with pytest.raises(UserError, match="color"):
        shapes(color=1.5)
