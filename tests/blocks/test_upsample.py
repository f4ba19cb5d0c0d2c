"""Upsampling layers by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks.upsample import UPSAMPLING, ConvTranspose, bilinear_init, crop_or_resize
from jaxseg.ops.resize import resize

X = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (3, 4), (12, 16)])
@pytest.mark.parametrize("name", UPSAMPLING)
def test_any_size_and_compute_type(name, size):
    layer = UPSAMPLING[name](dtype=jnp.bfloat16, name="up")
    y, variables = layer.init_with_output(jax.random.key(0), X, size)
    assert (y.shape, y.dtype) == ((2, *size, 5), jnp.bfloat16)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert bool(variables) == (name == "transposed")


def test_the_transposed_convolution_starts_as_bilinear_interpolation():
    y, _ = UPSAMPLING["transposed"](name="up").init_with_output(jax.random.key(0), X, (6, 8))
    np.testing.assert_allclose(y[:, 1:-1, 1:-1], resize(X, (6, 8))[:, 1:-1, 1:-1], atol=1e-5)


def test_fewer_channels_than_there_are_keep_their_own():
    layer = ConvTranspose(2, 4, padding=1, kernel_init=bilinear_init)
    y, _ = layer.init_with_output(jax.random.key(0), X)
    np.testing.assert_allclose(y[:, 1:-1, 1:-1], resize(X, (6, 8))[:, 1:-1, 1:-1, :2], atol=1e-5)


def test_fit_cuts_what_rounding_up_added_and_nothing_else():
    np.testing.assert_array_equal(crop_or_resize(X, (2, 3), 2), X[:, :2, :3])
    np.testing.assert_array_equal(crop_or_resize(X, (1, 4), 2), resize(X, (1, 4)))
