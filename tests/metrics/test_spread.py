"""The spread over images and its bootstrap, against loops and against theory."""

import jax
import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from jaxseg.checks import UserError
from jaxseg.metrics import create_metrics, merge, scores
from jaxseg.metrics.bootstrap import bootstrap_interval

SHAPE, CLASSES = (5, 4, 6), 3


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, SHAPE)
    labels[0] = np.minimum(labels[0], 1)
    predictions = np.where(rng.random(SHAPE) < 0.6, labels, rng.integers(0, CLASSES, SHAPE))
    predictions[0] = np.minimum(predictions[0], 1)
    where = rng.random(SHAPE) < 0.9
    where[4] = False  # an image that fills up a batch
    return predictions, labels, where


@pytest.fixture(scope="module")
def tallies(batch):
    metrics = create_metrics(["confusion", "spread"], {"spread": {"samples": 200}})
    count = jax.jit(lambda p, y, w: {k: m.update(p, y, where=w, num_classes=CLASSES) for k, m in metrics.items()})
    return metrics["spread"], count(*batch)


def test_equals_a_loop_over_images(batch, tallies):
    predictions, labels, where = batch
    metric, found = tallies
    result = metric.result(merge([found["spread"]]))
    iou = np.full((4, CLASSES), np.nan)
    for i in range(4):
        y, p = labels[i][where[i]], predictions[i][where[i]]
        present = np.union1d(y, p)
        iou[i, present] = jaccard_score(y, p, labels=present, average=None)
    assert np.isnan(iou[0, 2])
    np.testing.assert_allclose(result["image_miou"], np.nanmean(iou, 1).mean(), rtol=1e-12)
    np.testing.assert_allclose(result["image_miou_std"], np.nanmean(iou, 1).std(ddof=1), rtol=1e-12)
    np.testing.assert_allclose(result["image_iou"], np.nanmean(iou, 0), rtol=1e-12)
    np.testing.assert_allclose(result["image_iou_std"], np.nanstd(iou, 0, ddof=1), rtol=1e-12)
    assert result["spread"]["images"] == 4
    np.testing.assert_allclose(result["spread"]["quantiles"]["50%"], np.median(np.nanmean(iou, 1)), rtol=1e-12)


def test_interval_holds_the_score_of_the_whole(tallies):
    metric, found = tallies
    result = metric.result(merge([found["spread"]]))
    whole = scores(np.asarray(found["confusion"].sums["matrix"]))
    assert result["miou_low"] < whole["miou"] < result["miou_high"]
    for low, iou, high in zip(result["iou_low"], whole["iou"], result["iou_high"], strict=True):
        assert low < iou < high
    rows = {key: np.asarray(value)[::-1] for key, value in found["spread"].images.items()}
    again = metric.result(merge([found["spread"]._replace(images=rows)]))
    np.testing.assert_allclose(again["miou_low"], result["miou_low"], rtol=1e-12)  # whatever the order


def test_bootstrap_of_a_mean_is_the_normal_interval():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, 300)
    low, high = bootstrap_interval(
        lambda s: s[:, 0] / s[:, 1], np.stack([x, np.ones_like(x)], 1), samples=4000, level=0.9
    )
    reach = 1.645 * x.std() / np.sqrt(len(x))
    np.testing.assert_allclose([low, high], [x.mean() - reach, x.mean() + reach], atol=0.1 * reach)
    wider = bootstrap_interval(lambda s: s[:, 0] / s[:, 1], np.stack([x, np.ones_like(x)], 1), samples=4000, level=0.99)
    assert wider[0] < low < high < wider[1]


def test_seed_and_chunks(monkeypatch):
    rows = np.random.default_rng(0).integers(1, 9, (20, 2))
    first, same, other = (bootstrap_interval(lambda s: s[:, 0] / s[:, 1], rows, seed=s) for s in (0, 0, 1))
    assert first == same != other
    monkeypatch.setattr("jaxseg.metrics.bootstrap._BUDGET", 20 * 7)  # 7 draws at a time
    assert bootstrap_interval(lambda s: s[:, 0] / s[:, 1], rows) == first


def test_mistakes_are_named():
    for arguments in (dict(samples=0), dict(level=1.0)):
        with pytest.raises(UserError, match="Expected samples >= 1 and a level between 0 and 1"):
            bootstrap_interval(lambda s: s, np.ones((2, 2)), **arguments)
    with pytest.raises(UserError, match="one row per image"):
        bootstrap_interval(lambda s: s, np.ones((0, 2)))
