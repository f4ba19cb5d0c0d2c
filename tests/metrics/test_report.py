import json
import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from jaxseg.checks import UserError
from jaxseg.metrics import format_table, scores


@pytest.fixture(scope="module")
def labeled():
    rng = np.random.default_rng(0)
    labels = rng.choice(6, 4000, p=[0.5, 0.2, 0.15, 0.1, 0.049, 0.001])
    return labels, np.where(rng.random(4000) < 0.7, labels, rng.integers(0, 6, 4000))


def test_equals_sklearn(labeled):
    y, p = labeled
    result = scores(sklearn_metrics.confusion_matrix(y, p))
    expected = {
        "iou": sklearn_metrics.jaccard_score(y, p, average=None),
        "miou": sklearn_metrics.jaccard_score(y, p, average="macro"),
        "frequency_weighted_iou": sklearn_metrics.jaccard_score(y, p, average="weighted"),
        "dice": sklearn_metrics.f1_score(y, p, average=None),
        "mean_dice": sklearn_metrics.f1_score(y, p, average="macro"),
        "accuracy": sklearn_metrics.recall_score(y, p, average=None),
        "mean_accuracy": sklearn_metrics.balanced_accuracy_score(y, p),
        "precision": sklearn_metrics.precision_score(y, p, average=None),
        "mean_precision": sklearn_metrics.precision_score(y, p, average="macro"),
        "pixel_accuracy": sklearn_metrics.accuracy_score(y, p),
        "frequency": np.bincount(y) / len(y),
        "specificity": [sklearn_metrics.recall_score(y != k, p != k) for k in range(6)],
        "mean_specificity": np.mean([sklearn_metrics.recall_score(y != k, p != k) for k in range(6)]),
        "f_beta": sklearn_metrics.fbeta_score(y, p, beta=2, average=None),
        "mean_f_beta": sklearn_metrics.fbeta_score(y, p, beta=2, average="macro"),
        "kappa": sklearn_metrics.cohen_kappa_score(y, p),
        "mcc": sklearn_metrics.matthews_corrcoef(y, p),
    }
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, rtol=0, atol=1e-12, err_msg=name)


def test_absent_classes_are_nan_and_out_of_the_mean():
    # Class 1 is predicted but never labeled, class 2 labeled but never predicted, class 3 neither.
    result = scores(np.array([[6, 2, 0, 0], [0, 0, 0, 0], [4, 0, 0, 0], [0, 0, 0, 0]]))
    np.testing.assert_allclose(result["iou"], [0.5, 0, 0, math.nan])
    np.testing.assert_allclose(result["miou"], 0.5 / 3)
    np.testing.assert_allclose(result["dice"], [2 / 3, 0, 0, math.nan])
    np.testing.assert_allclose(result["accuracy"], [0.75, math.nan, 0, math.nan])
    np.testing.assert_allclose(result["mean_accuracy"], 0.375)
    np.testing.assert_allclose(result["precision"], [0.6, 0, math.nan, math.nan])
    np.testing.assert_allclose(result["mean_precision"], 0.3)
    np.testing.assert_allclose(result["frequency_weighted_iou"], 8 / 12 * 0.5)


def test_beta(labeled):
    y, p = labeled
    result = scores(sklearn_metrics.confusion_matrix(y, p), beta=0.5)
    np.testing.assert_allclose(result["f_beta"], sklearn_metrics.fbeta_score(y, p, beta=0.5, average=None), atol=1e-12)
    with pytest.raises(UserError, match="`beta` must be a positive number, got -1"):
        scores(np.eye(2, dtype=int), beta=-1)


@pytest.mark.parametrize(
    "matrix, kappa, mcc",
    [
        ([[5, 0], [0, 7]], 1.0, 1.0),
        ([[0, 5], [5, 0]], -1.0, -1.0),
        ([[4, 4], [4, 4]], 0.0, 0.0),
        ([[5, 3], [0, 0]], 0.0, math.nan),  # one label: no correlation, no agreement beyond chance
        ([[7, 0], [0, 0]], math.nan, math.nan),  # and one prediction: nothing but chance
    ],
)
def test_agreement_at_its_ends(matrix, kappa, mcc):
    result = scores(np.array(matrix))
    np.testing.assert_allclose([result["kappa"], result["mcc"]], [kappa, mcc], atol=1e-15)


def test_no_pixel_at_all_is_nan_without_a_warning(recwarn):
    result = scores(np.zeros((3, 3), np.int64))
    assert all(np.isnan(value).all() for value in result.values())
    assert not recwarn


def test_counts_past_two_to_the_31():
    """A hundred batches of 2^31 - 1 pixels, added as int64, and the same proportions of a few pixels."""
    few = np.array([[3, 1], [2, 5]])
    many = np.zeros((2, 2), np.int64)
    for _ in range(100):
        many += (few * (2**28 + 1)).astype(np.int64)
    assert many.sum() > 2**37
    for name, value in scores(few).items():
        np.testing.assert_allclose(scores(many)[name], value, rtol=1e-12, err_msg=name)
    narrow = np.array([[2**31 - 1, 2**31 - 1], [0, 2**31 - 1]], np.int32)  # sums of int32 rows must not wrap
    np.testing.assert_allclose(scores(narrow)["pixel_accuracy"], 2 / 3, rtol=1e-12)


def test_plain_numbers(labeled):
    result = scores(sklearn_metrics.confusion_matrix(*labeled))
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("matrix", [np.ones((2, 3), int), np.ones(4, int), np.ones((2, 2))])
def test_what_is_no_matrix_of_counts_is_refused(matrix):
    with pytest.raises(UserError, match="Expected a square matrix of counts"):
        scores(matrix)


def test_table_of_an_absent_class_and_long_names():
    table = format_table(scores(np.array([[8, 2], [0, 0]])), ["a very long name of a class", "b"]).splitlines()
    assert table[2].startswith("a very long name of a class ")
    assert table[2].split()[-5:] == ["1.0000", "0.8000", "0.8889", "0.8000", "1.0000"]
    assert table[3].split() == ["b", "0.0000", "0.0000", "0.0000", "-", "0.0000"]
    assert table[-2].startswith("mIoU 0.4000   pixel accuracy 0.8000")
    assert len(set(map(len, table[1:3]))) == 1
    empty = format_table(scores(np.zeros((1, 1), int)), ["a"])
    assert "mIoU -" in empty and "0 of 1 classes" in empty


def test_table_counts_a_class_that_is_only_predicted():
    """It has an IoU, of 0, and is in the mean."""
    table = format_table(scores(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]])), ["a", "b", "c"])
    assert "2 of 3 classes present" in table


def test_table_refuses_another_number_of_names():
    with pytest.raises(UserError, match="of 2 classes, but 1 names"):
        format_table(scores(np.eye(2, dtype=int)), ["a"])
