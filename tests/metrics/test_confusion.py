import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from jaxseg.checks import UserError
from jaxseg.metrics import confusion_matrix


def counted(predictions, labels, num_classes, where=None):
    matrix = jax.jit(confusion_matrix, static_argnames="num_classes")(
        predictions, labels, num_classes=num_classes, where=where
    )
    assert matrix.dtype == jnp.int32
    return np.asarray(matrix)


@pytest.mark.parametrize("shape", [(3, 37, 41), (1, 1, 1), (1, 5000), (2500,)])
def test_equals_sklearn(shape):
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 7, (2, *shape))
    where = rng.random(shape) < 0.8
    labels = np.where(where, labels, 255)
    expected = sklearn_metrics.confusion_matrix(labels[where], predictions[where], labels=range(7))
    np.testing.assert_array_equal(counted(predictions, labels, 7, where), expected)
    np.testing.assert_array_equal(counted(predictions.astype(np.uint8), labels.astype(np.uint8), 7), expected)


def test_counts_past_the_whole_numbers_of_float32():
    """2^24 + 1 pixels of one pair: a float32 sum of ones stops at 2^24."""
    pixels = 2**24 + 1
    zeros = np.zeros((1, pixels), np.uint8)
    assert counted(zeros, zeros, 1).tolist() == [[pixels]]


def test_what_is_no_class_counts_nowhere():
    labels = jnp.array([[0, 1, 2, 3, 255]])
    predictions = jnp.array([[0, 7, 2, -1, 0]])
    assert counted(predictions, labels, 3).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_all_ignored():
    labels = jnp.zeros((2, 3, 4), int)
    assert not counted(labels, labels, 3, jnp.zeros(labels.shape, bool)).any()


def test_what_is_no_class_is_no_other_pair():
    """Of 3 classes, (label 0, prediction 4) would be the entry of (1, 1), and (2, -2) that of (1, 1) as well."""
    labels, predictions = jnp.array([[0, 2, 0, 1]]), jnp.array([[4, -2, -1, 3]])
    assert not counted(predictions, labels, 3).any()


def test_ids_of_few_bits_do_not_overflow():
    """150 classes of uint8: label * 150 + prediction is more than eight bits hold."""
    labels, predictions = np.full((1, 3), 149, np.uint8), np.array([[148, 149, 149]], np.uint8)
    matrix = counted(predictions, labels, 150)
    assert matrix[149, 148:].tolist() == [1, 2] and matrix.sum() == 3


@pytest.mark.parametrize(
    "predictions, labels, where, message",
    [
        (np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 2), int), None, "Predictions must be integers.*argmax"),
        (np.zeros((1, 2, 2), int), np.zeros((1, 2, 2), bool), None, "Labels must be integers, got bool"),
        (np.zeros((1, 2, 2, 3), int), np.zeros((1, 2, 2), int), None, "expected equal shapes"),
        (np.zeros((1, 2, 2), int), np.zeros((1, 2, 2), int), np.ones((2, 2), bool), "`where` has shape"),
    ],
)
def test_wrong_arrays_are_named(predictions, labels, where, message):
    with pytest.raises(UserError, match=message):
        confusion_matrix(predictions, labels, num_classes=2, where=where)
