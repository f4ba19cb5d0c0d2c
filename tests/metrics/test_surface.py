"""Scores along borders against all pairs of pixels and SciPy's morphology, in float64; degenerate images included."""

import math

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.checks import UserError
from jaxseg.metrics import METRICS, merge
from jaxseg.metrics.borders import find_image
from jaxseg.metrics.boundary_iou import boundary_overlap
from jaxseg.metrics.surface import boundary_f_measure, surface_distances

H, W, C = 9, 11, 3


def images():
    """(predictions, labels): blobs, speckles, equal, and one region or none on either side."""
    rng = np.random.default_rng(0)
    predictions, labels = np.zeros((2, 8, H, W), np.int32)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, H, W, C)), (0, 2, 2, 0)).argmax(-1)
    predictions[0], labels[0] = smooth
    predictions[1], labels[1] = rng.integers(0, C, (2, H, W))
    predictions[2] = labels[2] = smooth[0]
    labels[3, 4, 5] = 1  # a single pixel, missed
    predictions[4, 1, 1] = labels[4, 7, 9] = 1
    predictions[5] = 1  # all of it, nothing right
    predictions[6, :3], labels[6, :4] = 2, 2  # along three ends of the image
    return predictions, labels  # the last: one class, right


def nearest(points, others):
    if not len(points) or not len(others):
        return np.full(len(points), np.inf)
    return np.sqrt(((points[:, None] - others) ** 2).sum(-1)).min(1)


def surface(region, counted, image_border):
    """Pixels whose upper, lower, left or right neighbor counts and is outside, one after the other."""
    rows, columns = np.nonzero(counted.any(1))[0], np.nonzero(counted.any(0))[0]
    found = []
    for y, x in np.argwhere(region & counted):
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if not (rows[0] <= v <= rows[-1] and columns[0] <= u <= columns[-1]):
                on = image_border
            else:
                on = counted[v, u] and not region[v, u]
            if on:
                found.append((y, x))
                break
    return np.array(found, float).reshape(-1, 2)


def naive(prediction, label, counted, tolerance, image_border, spacing=(1, 1)):
    """All scores of one image and class."""
    edges = [spacing * surface(x, counted, image_border) for x in (prediction, label)]
    keys = ["hausdorff", "hausdorff95", "average_surface_distance", "average_distance_to_label", "surface_dice"]
    keys += ["boundary_precision", "boundary_recall", "boundary_f"]
    if not len(edges[0]) and not len(edges[1]):
        return dict.fromkeys(keys, math.nan)
    if not len(edges[0]) or not len(edges[1]):
        return dict.fromkeys(keys[:4], math.inf) | dict.fromkeys(keys[4:], 0.0)
    there, back = nearest(*edges), nearest(*edges[::-1])
    both = np.concatenate([there, back])
    precision, recall = (there <= tolerance).mean(), (back <= tolerance).mean()
    f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    percentiles = [np.percentile(x, 95) for x in (there, back)]
    values = [both.max(), max(percentiles), both.mean(), there.mean(), (both <= tolerance).mean(), precision, recall, f]
    return dict(zip(keys, values, strict=True))


def compare(found, predictions, labels, where, tolerances, image_border):
    assert found
    for i, k in np.ndindex(len(labels), C):
        rows, columns = where[i].any(1).nonzero()[0], where[i].any(0).nonzero()[0]
        size = np.ptp(rows) + 1, np.ptp(columns) + 1
        tolerance = tolerances[k] if tolerances[k] >= 1 else tolerances[k] * math.hypot(*size)
        expected = naive(predictions[i] == k, labels[i] == k, where[i], tolerance, image_border)
        for key, value in found.items():
            np.testing.assert_allclose(value[i, k], expected[key], rtol=1e-6, err_msg=f"{key}, image {i}, class {k}")


WIDTHS = 0.12, 0.15, 3.0  # of the diagonal of 14.2 pixels: 1.7, rounded up, and 2.1, rounded down
PADDING = (0, 0), (2, 3), (1, 0)


@pytest.fixture(scope="module")
def measure():
    """measure(predictions, labels, where): the surfaces with and the F without the ends of the image, and the bands.

    All arrays are padded with what doesn't count, which must change nothing.
    """
    tolerances = (1.0, 0.15, 0.0)

    @jax.jit
    def run(predictions, labels, where):
        options = {"num_classes": C, "where": where}
        distances = surface_distances(predictions, labels, tolerance=tolerances, **options)
        f = boundary_f_measure(predictions, labels, tolerance=tolerances, **options)
        return distances, f, boundary_overlap(predictions, labels, width=WIDTHS, **options)

    def measure(predictions, labels, where):
        arrays = [np.pad(x, PADDING, constant_values=255) for x in (predictions, labels)]
        return *jax.device_get(run(*arrays, np.pad(where, PADDING))), tolerances

    return measure


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_scores_are_the_definition(measure, share):
    predictions, labels = images()
    where = np.random.default_rng(1).random(labels.shape) <= share
    spoiled = [np.where(where, x, 255) for x in (predictions, labels)]
    distances, f, _, tolerances = measure(*spoiled, where)
    compare(distances, predictions, labels, where, tolerances, True)
    compare(f, predictions, labels, where, tolerances, False)


@pytest.mark.parametrize("spacing", [(0.8, 1.4), (5.0, 0.7)])
def test_millimeters(spacing):
    """Pixels that are no squares, as of a scanner; a tolerance below 1 is then no share of anything."""
    predictions, labels = images()
    tolerances = (0.5, 1.5, 6.0)
    options = {"num_classes": C, "tolerance": tolerances, "spacing": spacing}
    found = jax.jit(lambda p, y: surface_distances(p, y, **options))(predictions, labels)
    everywhere = np.ones((H, W), bool)
    for i, k in np.ndindex(len(labels), C):
        pair = predictions[i] == k, labels[i] == k
        expected = naive(*pair, everywhere, tolerances[k], True, spacing)
        for key, value in found.items():
            np.testing.assert_allclose(value[i, k], expected[key], rtol=1e-6, err_msg=f"{key}, image {i}, class {k}")
    metric = METRICS["surface"](tolerance=tolerances, spacing=spacing)
    result = metric.result(merge([metric.update(predictions, labels, where=None, num_classes=C)]))
    assert result["surface"]["spacing"] == spacing
    measured = np.asarray(found["hausdorff"])[:, 1]
    np.testing.assert_allclose(result["hausdorff"][1], measured[np.isfinite(measured)].mean(), rtol=1e-6)


def test_what_lies_along_the_border_is_what_erosion_takes(measure):
    """As the authors of boundary IoU do it: erosion by 3 x 3 pixels, `width` times, beyond the image nothing."""
    predictions, labels = images()
    *_, found, _ = measure(predictions, labels, np.ones(labels.shape, bool))
    for i, k in np.ndindex(len(labels), C):
        times = (2, 2, 3)[k]
        along = []
        for region in (predictions[i] == k, labels[i] == k):
            along.append(region & ~ndimage.binary_erosion(region, np.ones((3, 3)), times))
        assert found["intersection"][i, k] == (along[0] & along[1]).sum()
        assert found["union"][i, k] == (along[0] | along[1]).sum()
    assert 0 < found["intersection"][:2].sum() < found["union"][:2].sum()


def test_an_ignored_ring_hides_the_border(measure):
    """As around the objects of Pascal VOC: what bounds the region is not known, so it has no surface."""
    labels = np.zeros((8, H, W), np.int32)
    labels[:, 3:6, 3:7] = 1
    ring = np.stack([ndimage.binary_dilation(x == 1) for x in labels]) & (labels != 1)
    assert np.isnan(measure(labels, labels, ~ring)[1]["boundary_f"]).all()
    assert (measure(labels, labels, np.ones_like(ring))[1]["boundary_f"][:, :2] == 1).all()


def test_results_leave_out_what_a_image_lacks():
    predictions, labels = images()
    metrics = [METRICS[name]() for name in ("surface", "boundary_f", "boundary_iou")]
    update = jax.jit(lambda p, y: [metric.update(p, y, where=None, num_classes=C + 1) for metric in metrics])
    result = {}
    for metric, tally in zip(metrics, update(predictions, labels), strict=True):
        result |= metric.result(merge([tally]))
    everywhere = np.ones((H, W), bool)
    pairs = list(zip(predictions, labels, strict=True))
    rows = [[naive(p == k, y == k, everywhere, 1.0, True) for k in range(C)] for p, y in pairs]
    for key in ("hausdorff", "hausdorff95", "average_surface_distance", "surface_dice"):
        values = np.array([[row[key] for row in image] for image in rows])
        expected = np.nanmean(np.where(np.isfinite(values), values, math.nan), 0)
        np.testing.assert_allclose(result[key], [*expected, math.nan], rtol=1e-6)
        np.testing.assert_allclose(result[f"mean_{key}"], expected.mean(), rtol=1e-6)
    distances = np.array([[row["hausdorff"] for row in image] for image in rows])
    assert result["surface"]["images"] == [*np.isfinite(distances).sum(0), 0]
    assert result["surface"]["missed"] == [*np.isinf(distances).sum(0), 0]
    assert sum(result["surface"]["missed"]) == 3
    for key in ("boundary_f", "boundary_iou"):
        assert math.isnan(result[key][C]) and 0 < result[f"mean_{key}"] < 1


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("surface", {"tolerance": -1.0}, "`tolerance` must be a number >= 0, or one for each of the 2 classes, got -1"),
        ("surface", {"spacing": 0.8}, r"`spacing` must be the height and the width of a pixel, .* got 0.8"),
        ("surface", {"spacing": (0.8, 0)}, "two numbers > 0"),
        ("boundary_f", {"tolerance": (1.0, 2.0, 3.0)}, "one for each of the 2 classes"),
        ("boundary_iou", {"width": math.nan}, "`width` must be a number"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    labels = np.zeros((1, 3, 3), np.int32)
    with pytest.raises(UserError, match=message):
        METRICS[name](**options).update(labels, labels, where=None, num_classes=2)


def test_rows_that_are_ignored_do_not_move_the_end_of_an_image():
    """Cityscapes ignores the hood of its car, the lowest rows of every image; the array is padded besides."""
    labels, where, sizes = np.zeros((1, 48, 32), np.int32), np.zeros((1, 48, 32), bool), np.int32([[40, 30]])
    labels[:, 10:, :15], where[:, :28, :30] = 1, True
    image = jax.jit(find_image)(labels, where, sizes)
    assert float(image.diagonal[0]) == 50
    assert image.to_end[0, 27, 15].item() == 13  # the last row that counts is 27, that of the image 39
    arguments = dict(num_classes=2, where=where)
    zones = {}
    for name, given in (("sizes", sizes), ("none", None)):
        found = boundary_overlap(labels, labels, width=0.04, sizes=given, **arguments)
        zones[name] = found["union"][0, 1].item()
    sides, top = 18 * (2 + 2), 2 * (15 - 4)  # two pixels wide; none at row 27, where nothing ends
    assert zones == {"sizes": sides + top, "none": sides + top + top}
    shifted = np.roll(labels, 2, -1)
    for measure, key in ((surface_distances, "average_surface_distance"), (boundary_f_measure, "boundary_f")):
        options = dict(arguments, tolerance=0.03, image_border=True)
        pair = [np.asarray(measure(shifted, labels, sizes=s, **options)[key]) for s in (sizes, None)]
        assert (pair[0] != pair[1]).all(), key
