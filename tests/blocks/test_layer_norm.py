"""Layer normalization and layer scale against their definitions."""

import jax.numpy as jnp
import numpy as np

from jaxseg.blocks.layer_norm import LayerNorm, LayerScale


def test_every_position_is_normalized_by_itself():
    x = np.random.default_rng(0).normal(3, 2, size=(2, 3, 1, 8))
    params = {"scale": jnp.arange(8.0), "bias": jnp.full(8, 0.5)}
    y = LayerNorm(epsilon=0.1).apply({"params": params}, jnp.asarray(x, jnp.float32), train=True)
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 0.1) * np.arange(8) + 0.5, rtol=1e-4, atol=1e-5)


def test_statistics_of_bfloat16_are_float32():
    x = 100 + jnp.array([[[[-1.0, 1.0] * 64]]])  # in bfloat16, the squares are 64 apart
    params = {"scale": jnp.ones(128), "bias": jnp.zeros(128)}
    y = LayerNorm(dtype=jnp.bfloat16).apply({"params": params}, x.astype(jnp.bfloat16), train=False)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), x - 100, atol=1e-2)


def test_layer_scale_multiplies_channels():
    x = jnp.ones((1, 2, 1, 3))
    y = LayerScale().apply({"params": {"gamma": jnp.array([1.0, 2.0, 3.0])}}, x)
    np.testing.assert_array_equal(y[0, 1, 0], [1, 2, 3])
