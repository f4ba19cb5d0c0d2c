"""Attention against its definition."""

import re

import jax
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


def test_the_gradient_is_that_of_the_definition():
    random = np.random.default_rng(1)
    arrays = [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in ((2, 5, 6), (2, 4, 6), (2, 4, 9))]
    tangents = [jnp.cos(3 * x) for x in arrays]

    def definition(query, key, value):
        parts = [jnp.split(x, 3, axis=-1) for x in (query, key, value)]
        heads = [jax.nn.softmax(q @ k.swapaxes(1, 2) / np.sqrt(2)) @ v for q, k, v in zip(*parts, strict=True)]
        return jnp.concatenate(heads, axis=-1)

    def slopes(attend):
        def loss(*arrays):
            return jnp.sin(attend(*arrays)).sum()

        first = jax.grad(loss, argnums=(0, 1, 2))
        return first(*arrays), jax.jvp(attend, arrays, tangents)[1], jax.jvp(first, arrays, tangents)[1]

    ours = slopes(lambda *arrays: dot_product_attention(*arrays, heads=3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), ours, slopes(definition))


def test_under_bfloat16_no_product_has_float32_operands():
    query, key = jnp.ones((2, 5, 6), jnp.bfloat16), jnp.ones((2, 4, 6), jnp.bfloat16)

    def loss(query, key):
        return dot_product_attention(query, key, key, heads=3).astype(jnp.float32).sum()

    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(query, key).as_text()
    products = re.findall(r"stablehlo\.dot_general .*: \((.*)\) -> ", text)
    assert len(products) >= 5  # the scores, and two for each of the gradients of both products
    assert not any("f32" in operands for operands in products)


def test_bfloat16_gradients_stay_near_those_of_float32():
    arrays = [jax.random.normal(jax.random.key(n), (2, 30, 8)).astype(jnp.bfloat16) for n in range(3)]

    def slopes(arrays):
        def loss(*arrays):
            return jnp.sin(dot_product_attention(*arrays, heads=2).astype(jnp.float32)).sum()

        return jax.grad(loss, argnums=(0, 1, 2))(*arrays)

    for low, exact in zip(slopes(arrays), slopes([x.astype(jnp.float32) for x in arrays]), strict=True):
        difference = np.linalg.norm(np.asarray(low, np.float32) - exact) / np.linalg.norm(exact)
        assert difference < 0.02
