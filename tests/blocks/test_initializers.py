"""Initial values: the published spread, the same by key however they are computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks import initializers
from jaxseg.blocks.initializers import CHUNK, he_normal, he_uniform, pytorch_uniform, xavier_uniform

SHAPE = (3, 3, 32, 160)  # more than one chunk, and not a whole number of them
FAN_IN, FAN_OUT = 9 * 32, 9 * 160


@pytest.mark.parametrize(
    "initializer, std, bounded",
    [
        (he_normal, np.sqrt(2 / FAN_OUT), False),
        (he_uniform, np.sqrt(2 / FAN_IN), True),
        (xavier_uniform, np.sqrt(2 / (FAN_IN + FAN_OUT)), True),
        (pytorch_uniform, np.sqrt(1 / (3 * FAN_IN)), True),
    ],
)
def test_spread(initializer, std, bounded):
    values = initializer(jax.random.key(0), SHAPE, jnp.float32)
    assert (values.shape, values.dtype) == (SHAPE, jnp.float32)
    assert values.std() == pytest.approx(std, rel=0.02)
    assert abs(values.mean()) < 0.02 * std
    reach = np.abs(values).max() / std
    assert reach == pytest.approx(np.sqrt(3), rel=1e-3) if bounded else 4 < reach < 6


def test_depends_on_the_key_and_differs_between_chunks():
    first, again, other = (he_normal(jax.random.key(n), SHAPE).ravel() for n in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.99
    assert (first[:1000] != first[CHUNK : CHUNK + 1000]).mean() > 0.99


def test_a_smaller_kernel_begins_like_a_larger_one_of_the_same_fans():
    scaled = initializers.scaled("normal", lambda fan_in, fan_out: 1.0)
    small, large = (scaled(jax.random.key(0), shape).ravel() for shape in ((1, 1, 4, 5), (3, 3, 4, 5)))
    np.testing.assert_array_equal(small, large[:20])


def test_compiled_is_the_same_but_for_rounding():
    eager = he_normal(jax.random.key(3), SHAPE)
    compiled = jax.jit(lambda key: he_normal(key, SHAPE))(jax.random.key(3))
    np.testing.assert_allclose(eager, compiled, rtol=1e-5, atol=1e-8)
