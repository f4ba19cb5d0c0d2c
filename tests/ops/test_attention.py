"""Attention against its definition."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.ops.attention import dot_product_attention


@pytest.mark.parametrize("heads", [1, 3])
def test_every_query_gets_the_weighted_mean_of_the_values(heads):
    random = np.random.default_rng(0)
    query, key, value = (random.normal(size=shape).astype(np.float32) for shape in ((2, 5, 6), (2, 4, 6), (2, 4, 9)))
    seen = np.asarray(dot_product_attention(query, key, value, heads=heads))
    for q, k, v, y in zip(
        *(np.split(x, heads, axis=-1) for x in (query, key, value)), np.split(seen, heads, axis=-1), strict=True
    ):
        weights = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]))
        np.testing.assert_allclose(y, weights @ v / weights.sum(-1, keepdims=True), rtol=1e-4, atol=1e-6)


def test_bfloat16_is_summed_in_float32():
    ones = jnp.ones((1, 1000, 4), jnp.bfloat16)  # summed in bfloat16, 1000 thousandths stop short of one
    seen = dot_product_attention(ones[:, :1], ones, ones)
    assert seen.dtype == jnp.bfloat16
    np.testing.assert_allclose(seen.astype(jnp.float32), 1.0, atol=5e-3)
