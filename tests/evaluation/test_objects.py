"""Regions, their fit and their borders, against SciPy and loops."""

import numpy as np
import pytest
from scipy import ndimage

from jaxseg.evaluation.objects import border_pixels, components, find_objects

SPIRAL = np.array(
    [list(map(int, row)) for row in ("1111111", "0000001", "1111101", "1000101", "1010101", "1011101", "1000001")]
)
RANDOM = np.random.default_rng(0).integers(0, 3, (23, 31))


def naive(label):
    """Numbers from SciPy, class by class, in the order of the first pixel."""
    regions = np.zeros(label.shape, int)
    for value in np.unique(label):
        numbers, _ = ndimage.label(label == value)
        regions = np.where(numbers > 0, 1000 * (value + 1) + numbers, regions)
    return regions


@pytest.mark.parametrize("label", [SPIRAL, SPIRAL.T, RANDOM, RANDOM[:1], RANDOM[:, :1], np.zeros((3, 4), int)])
def test_components_are_scipys(label):
    ours, theirs = components(label), naive(label)
    matched = set(zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True))
    assert len(matched) == len(np.unique(ours)) == len(np.unique(theirs)) == ours.max() + 1


def test_objects_as_a_loop_finds_them():
    label = RANDOM.copy()
    label[:4] = 255
    prediction = np.where(np.random.default_rng(1).random(label.shape) < 0.3, 0, RANDOM)
    objects = find_objects(label, prediction)
    found = sorted(zip(*(column.tolist() for column in objects), strict=True))
    expected, counted = [], label != 255
    for value in (0, 1, 2):
        labeled, count = ndimage.label(label == value)
        predicted, others = ndimage.label((prediction == value) & counted)
        for i in range(1, count + 1):
            region = labeled == i
            fits = [(region & (predicted == j)).sum() / (region | (predicted == j)).sum() for j in range(1, others + 1)]
            expected.append((value, region.sum(), (region & (prediction == value)).sum(), max(fits, default=0.0)))
    np.testing.assert_allclose(np.array(found), np.array(sorted(expected)))


def test_border_pixels_as_a_loop_finds_them():
    label = RANDOM.copy()
    label[5:7] = 255
    expected = np.zeros(label.shape, bool)
    for (i, j), value in np.ndenumerate(label):
        for y, x in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if 0 <= y < label.shape[0] and 0 <= x < label.shape[1] and 255 not in (value, label[y, x]):
                expected[i, j] |= label[y, x] != value
    np.testing.assert_array_equal(border_pixels(label), expected)
