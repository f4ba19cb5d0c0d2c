import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses.pixels import counted_logits, one_hot, per_class, ratio_where


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
