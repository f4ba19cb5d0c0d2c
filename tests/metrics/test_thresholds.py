"""Binary and multi-label scores equal scikit-learn's, and a loop over pixels."""

import jax
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from jaxseg.checks import UserError
from jaxseg.metrics import binary_scores, merge, threshold_counts
from jaxseg.metrics.thresholds import average_precision, threshold_scores

CUTS = tuple(i / 8 for i in range(9))
SHAPE, CLASSES = (2, 5, 7), 3


@pytest.fixture(scope="module")
def batch():
    """Probabilities on a grid of eighths, so that thresholds tell all of them apart; overlapping masks."""
    rng = np.random.default_rng(0)
    p = (rng.integers(0, 9, (*SHAPE, CLASSES)) / 8).astype(np.float32)
    masks = rng.random(p.shape) < 0.2 + 0.5 * p
    return p, masks, rng.random(SHAPE) < 0.8


@pytest.fixture(scope="module")
def counts(batch):
    count = jax.jit(lambda p, y, w: threshold_counts(p, y, thresholds=CUTS, where=w))
    p, masks, where = batch
    junk = np.where(where[..., None], p, np.nan).astype(np.float32)
    return np.asarray(count(junk, masks.astype(np.int32), where))


def test_equals_a_loop_over_pixels(batch, counts):
    p, masks, where = batch
    for t, cut in enumerate(CUTS):
        for k in range(CLASSES):
            pairs = [(g >= cut, bool(m)) for g, m in zip(p[where][:, k], masks[where][:, k], strict=True)]
            expected = [pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
            assert counts[:, t, k].tolist() == expected
    assert counts.dtype == np.int32


def test_scores_equal_sklearn(batch, counts):
    p, masks, where = batch
    result = binary_scores(counts, beta=0.5)
    for t, cut in enumerate(CUTS[:8]):  # at the last one per class may not be predicted
        for k in range(CLASSES):
            y, guess = masks[where][:, k], p[where][:, k] >= cut
            expected = {
                "iou": sklearn_metrics.jaccard_score(y, guess),
                "dice": sklearn_metrics.f1_score(y, guess),
                "precision": sklearn_metrics.precision_score(y, guess),
                "recall": sklearn_metrics.recall_score(y, guess),
                "specificity": sklearn_metrics.recall_score(~y, ~guess),
                "f_beta": sklearn_metrics.fbeta_score(y, guess, beta=0.5),
                "accuracy": sklearn_metrics.accuracy_score(y, guess),
                "kappa": sklearn_metrics.cohen_kappa_score(y, guess),
                "mcc": sklearn_metrics.matthews_corrcoef(y, guess) if cut else np.nan,  # sklearn has 0 for 0 / 0
            }
            assert expected.keys() == result.keys()
            for key, value in expected.items():
                np.testing.assert_allclose(result[key][t, k], value, atol=1e-12, err_msg=f"{key} at {cut}")
    expected = [sklearn_metrics.average_precision_score(masks[where][:, k], p[where][:, k]) for k in range(CLASSES)]
    np.testing.assert_allclose(average_precision(counts), expected, atol=1e-12)


def test_class_ids_are_one_against_all(batch):
    p, _, where = batch
    labels = np.random.default_rng(1).integers(0, CLASSES, SHAPE)
    masks = np.eye(CLASSES, dtype=int)[labels]

    def count(p, w, ids, one, masks, foreground):
        pairs = (p, ids, masks), (p[..., :1], one, foreground)
        return [[threshold_counts(q, y, thresholds=CUTS, where=w) for y in labels] for q, *labels in pairs]

    for ours, expected in jax.jit(count)(p, where, labels, (labels == 1).astype(int), masks, masks[..., 1:2]):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("confidence", [2.0, 8.0, 30.0])
def test_average_precision_is_exact_also_of_a_trained_network(confidence):
    """Most of its probabilities lie near 0 and 1, many at 1 itself, where no grid of thresholds tells them apart."""
    rng = np.random.default_rng(0)
    shape, classes = (2, 160, 160), 5
    labels = rng.choice(classes, shape, p=(0.7, 0.15, 0.1, 0.04, 0.01)).astype(np.int32)
    scores = rng.normal(size=(*shape, classes)) * confidence / 4
    scores += np.eye(classes)[labels] * rng.exponential(confidence, (*shape, 1))
    p = np.asarray(jax.nn.softmax(scores.astype(np.float32)))
    assert confidence < 30 or (p == 1).mean() > 0.05
    where = rng.random(shape) < 0.9
    metric = threshold_scores()
    count = jax.jit(metric.update, static_argnames="num_classes")
    halves = [count(p[i : i + 1], labels[i : i + 1], where=where[i : i + 1], num_classes=classes) for i in range(2)]
    ours = metric.result(merge(halves))["average_precision"]
    exact = [sklearn_metrics.average_precision_score(labels[where] == k, p[where][:, k]) for k in range(classes)]
    np.testing.assert_allclose(ours, exact, atol=1e-3)
    assert confidence < 30 or ours[4] < 0.9  # a score that can differ


def test_average_precision_of_certain_predictions_has_steps():
    """Probabilities of 0 and 1 alone are two steps; between them no order of the pixels is any better."""
    rng = np.random.default_rng(0)
    labels = (rng.random((1, 40, 40)) < 0.1).astype(np.int32)
    p = np.where(rng.random(labels.shape) < 0.9, labels, 1 - labels).astype(np.float32)
    p = np.stack([1 - p, p], -1)
    metric = threshold_scores()
    ours = metric.result(metric.update(p, labels, where=None, num_classes=2))["average_precision"]
    exact = [sklearn_metrics.average_precision_score((labels == k).ravel(), p[..., k].ravel()) for k in range(2)]
    np.testing.assert_allclose(ours, exact, atol=1e-12)


def test_best_threshold_and_a_class_without_a_label():
    metric = threshold_scores(thresholds=(0.25, 0.5, 0.75))
    p = np.array([[[[0.6, 0.4], [0.3, 0.7], [0.8, 0.2]]]], np.float32)
    count = jax.jit(metric.update, static_argnames="num_classes")
    result = metric.result(merge([count(p, np.zeros((1, 1, 3), int), where=None, num_classes=2)]))
    assert result["best_dice"] == [1.0, 0.0]
    assert result["best_threshold"] == [0.25, 0.25]
    np.testing.assert_array_equal(result["average_precision"], [1.0, np.nan])
    assert result["mean_average_precision"] == 1.0
    assert result["threshold_counts"]["tp"] == [[3, 0], [2, 0], [1, 0]]


def test_degenerate_counts_are_nan():
    result = binary_scores(np.array([0, 0, 0, 6]))
    assert result["accuracy"] == 1 and result["specificity"] == 1
    for key in ("iou", "dice", "precision", "recall", "f_beta", "kappa", "mcc"):
        assert np.isnan(result[key]), key
    assert all(np.isnan(value) for value in binary_scores(np.zeros(4, int)).values())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(thresholds=()), "one or more numbers from 0 to 1"),
        (dict(thresholds=(-0.1,)), "one or more numbers from 0 to 1"),
        (dict(where=np.ones((1, 2), bool)), "`where` has shape"),
    ],
)
def test_mistakes_are_named(arguments, message):
    p = np.zeros((1, 2, 2, 3), np.float32)
    with pytest.raises(UserError, match=message):
        threshold_counts(p, np.zeros(p.shape, int), **arguments)
    with pytest.raises(UserError, match="expected equal shapes, one mask per class"):
        threshold_counts(p, np.zeros((1, 2, 2, 2), int))
