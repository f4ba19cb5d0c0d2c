import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses.pixels import (
    binary_targets,
    check_binary,
    counted_logits,
    inverse_frequency,
    one_hot,
    per_class,
    power_of_positive,
    ratio_where,
)


def test_counted_logits_is_float32_and_stops_what_is_ignored():
    logits = jnp.array([[1.0, jnp.nan], [2.0, 3.0]], jnp.bfloat16)
    where = jnp.array([False, True])
    assert counted_logits(logits, where).dtype == jnp.float32
    gradient = jax.grad(lambda x: jnp.square(counted_logits(x, where)).sum())(logits)
    assert gradient.tolist() == [[0, 0], [4, 6]]
    assert counted_logits(logits, None).dtype == jnp.float32


def test_one_hot_of_small_integers_does_not_wrap():
    labels = jnp.array([0, 255], jnp.uint8)
    hot = one_hot(labels, 300)
    assert np.asarray(hot).nonzero()[1].tolist() == [0, 255]
    assert not one_hot(jnp.array([-1, 7]), 7).any()


def test_ratio_where_is_zero_with_a_zero_gradient_when_nothing_weighs():
    values, weights = jnp.array([1.0, 2.0]), jnp.zeros(2)
    value, gradient = jax.value_and_grad(ratio_where)(values, weights, None)
    assert value == 0
    assert not gradient.any()


def test_per_class_names_its_argument():
    assert per_class((1, 2), 2, "w").dtype == jnp.float32
    with pytest.raises(UserError, match=r"`w` must hold one number for each of the 2 classes, got shape \(\)"):
        per_class(1.0, 2, "w")


def test_binary_targets_of_every_kind_of_label():
    ids = jnp.array([[[0, 1, 2]]], jnp.uint8)
    assert binary_targets(ids, 3)[0, 0].astype(int).tolist() == np.eye(3).tolist()
    assert binary_targets(ids, 1)[0, 0, :, 0].tolist() == [False, True, False]
    assert binary_targets(ids == 1, 1)[0, 0, :, 0].tolist() == [False, True, False]
    many = jnp.array([[[[0, 1, 1]]]], jnp.uint8)
    assert binary_targets(many, 3).tolist() == binary_targets(many == 1, 3).tolist() == [[[[False, True, True]]]]


@pytest.mark.parametrize(
    "logits, labels, message",
    [
        ((1, 2, 3), jnp.zeros((1, 2), int), r"Logits must be \[b, h, w, c\], got \(1, 2, 3\)"),
        ((1, 2, 2, 3), jnp.zeros((1, 2, 2), bool), r"ids or bool\[b, h, w, c\]"),
        ((1, 2, 2, 3), jnp.zeros((1, 2, 2, 4), bool), r"hold 4 classes per pixel, logits \(1, 2, 2, 3\) hold 3"),
        ((1, 2, 2, 3), jnp.zeros((1, 4, 4, 3), bool), "Resize the logits"),
        ((1, 2, 2, 3), jnp.zeros((1, 2, 2, 3)), "Labels must be integers"),
    ],
)
def test_labels_that_no_sigmoid_can_take_are_refused(logits, labels, message):
    with pytest.raises(UserError, match=message):
        check_binary(jnp.zeros(logits), labels)


def test_inverse_frequency_counts_what_counts():
    hot, where = one_hot(jnp.array([0, 0, 1, 1]), 3), jnp.array([True, False, True, True])
    np.testing.assert_allclose(inverse_frequency(hot, where), [3 / 2, 3 / 4, 0])
    assert not inverse_frequency(hot, jnp.zeros(4, bool)).any()


def test_power_of_positive_has_a_finite_slope_at_zero():
    slope = jax.grad(lambda x: power_of_positive(x, 0.5).sum())
    assert slope(jnp.array([0.0, 4.0])).tolist() == [0, 0.25]
    assert power_of_positive(jnp.zeros(2), 0).tolist() == [1, 1]
