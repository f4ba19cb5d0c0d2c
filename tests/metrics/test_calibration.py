"""Calibration errors equal their definitions, pixel by pixel in float64."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.metrics import create_metrics, merge
from jaxseg.metrics.calibration import near_boundary

SHAPE, CLASSES, BINS = (2, 6, 7), 3, 4


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(CLASSES, 0.5), SHAPE)
    p[0, 0, :3] = [[1, 0, 0], [0.5, 0.25, 0.25], [0, 0.75, 0.25]]  # on the edges of bins
    return p.astype(np.float32), rng.integers(0, CLASSES, SHAPE), rng.random(SHAPE) < 0.8


@pytest.fixture(scope="module")
def results(batch):
    options = {"calibration": {"bins": BINS}, "boundary_calibration": {"bins": BINS, "radius": 1}}
    metrics = create_metrics(list(options), options)
    count = jax.jit(lambda p, y, w: {k: m.update(p, y, where=w, num_classes=CLASSES) for k, m in metrics.items()})
    return {name: metrics[name].result(merge([tally])) for name, tally in count(*batch).items()}


def naive(p, labels):
    """The definitions, for p [n, c] and labels [n]: every pixel goes to its bin."""
    n, p = len(labels), p.astype(np.float64)

    def error(values, hits):
        bins = [[] for _ in range(BINS)]
        for value, hit in zip(values, hits, strict=True):
            bins[max(int(np.ceil(value * BINS)) - 1, 0)].append((value, hit))
        gaps = [abs(np.mean([h for _, h in b]) - np.mean([v for v, _ in b])) for b in bins if b]
        return sum(len(b) / n * g for b, g in zip(filter(None, bins), gaps, strict=True)), max(gaps)

    ece, mce = error(p.max(1), p.argmax(1) == labels)
    class_ece = [error(p[:, k], labels == k)[0] for k in range(CLASSES)]
    own = p[np.arange(n), labels]
    return {
        "ece": ece,
        "mce": mce,
        "class_ece": class_ece,
        "classwise_ece": np.mean(class_ece),
        "nll": -np.log(np.maximum(own, 2.0**-126)).mean(),
        "brier": ((p - np.eye(CLASSES)[labels]) ** 2).sum(1).mean(),
    }


def test_equals_the_definitions(batch, results):
    p, labels, where = batch
    for key, value in naive(p[where], labels[where]).items():
        np.testing.assert_allclose(results["calibration"][key], value, rtol=1e-6, atol=1e-7, err_msg=key)
    reliability = results["calibration"]["reliability"]
    assert sum(reliability["pixels"]) == where.sum()
    assert reliability["edges"] == [0, 0.25, 0.5, 0.75, 1]


def test_boundary_is_where_a_pixel_of_another_label_is_near(batch, results):
    p, labels, where = batch
    near = np.zeros(SHAPE, bool)
    for i, y, x in zip(*np.nonzero(where), strict=True):
        window = (i, slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2))
        near[i, y, x] = (where[window] & (labels[window] != labels[i, y, x])).any()
    for key, value in naive(p[near], labels[near]).items():
        np.testing.assert_allclose(results["boundary_calibration"][f"boundary_{key}"], value, rtol=1e-6, atol=1e-7)
    assert results["boundary_calibration"]["boundary_share"] == near.sum() / where.sum()


def test_distance_to_the_boundary_is_in_rows_and_columns():
    labels = np.zeros((1, 12, 12), np.int32)
    labels[0, 3:8, 4:9] = 1
    near = jax.jit(near_boundary, static_argnums=2)(labels, np.ones(labels.shape, bool), 2)
    distances = [ndimage.distance_transform_cdt(labels[0] == k, metric="chessboard") for k in (0, 1)]
    np.testing.assert_array_equal(near[0], np.where(labels[0] == 1, distances[1], distances[0]) <= 2)


def test_what_is_believed_rightly_has_no_error():
    """A hundred pixels at 80 %, of which eighty are right."""
    metric = create_metrics(["calibration"])["calibration"]
    count = jax.jit(metric.update, static_argnames="num_classes")
    p = np.broadcast_to(np.float32([0.8, 0.2]), (1, 10, 10, 2))
    labels = (np.arange(100) >= 80).astype(int).reshape(1, 10, 10)
    result = metric.result(merge([count(p, labels, where=None, num_classes=2)]))
    np.testing.assert_allclose([result["ece"], result["mce"], *result["class_ece"]], 0, atol=1e-7)
    flipped = metric.result(merge([count(p, 1 - labels, where=None, num_classes=2)]))
    np.testing.assert_allclose(flipped["ece"], 0.6, rtol=1e-6)
