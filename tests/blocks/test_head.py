"""The head's scores are enlarged in the compute type, and come out as float32."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks.head import Head
from jaxseg.ops.resize import resize


def features(dtype):
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 8)).astype(dtype)
    return x, Head(3, dtype=dtype).init(jax.random.key(1), x, (10, 12))


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_under_bfloat16_no_product_is_float32(platform):
    x, variables = features(jnp.bfloat16)

    def loss(variables, x):
        return jnp.sin(Head(3, dtype=jnp.bfloat16).apply(variables, x, (10, 12))).sum()

    program = jax.jit(jax.grad(loss, argnums=(0, 1))).trace(variables, x)
    text = program.lower(lowering_platforms=(platform,)).as_text()
    products = re.findall(r"stablehlo\.dot_general .*: \((.*)\) -> (.*)", text)
    assert len(products) >= 4  # along each axis, forward and backward
    assert not any("f32" in operands for operands, _ in products)


def test_the_scores_are_those_of_float32_but_for_rounding():
    x, variables = features(jnp.bfloat16)
    low = Head(3, dtype=jnp.bfloat16).apply(variables, x, (10, 12))
    exact = Head(3).apply(variables, x.astype(jnp.float32), (10, 12))
    assert low.dtype == exact.dtype == jnp.float32
    np.testing.assert_allclose(low, exact, atol=4 * 2**-9 * np.abs(exact).max())  # rounded four times


def test_float32_scores_are_enlarged_as_they_are():
    x, variables = features(jnp.float32)
    scores = Head(3).apply(variables, x, (5, 6))
    expected = resize(scores, (10, 12), align_corners=True)
    np.testing.assert_array_equal(Head(3).apply(variables, x, (10, 12)), expected)


def test_with_a_type_of_their_own_the_scores_never_have_eight_bits():
    x, variables = features(jnp.bfloat16)
    head = Head(3, dtype=jnp.bfloat16, head_dtype=jnp.float32)
    program = jax.jit(head.apply, static_argnums=2).trace(variables, x, (10, 12))
    text = program.lower(lowering_platforms=("cuda",)).as_text()
    operands = re.findall(r"stablehlo\.(convolution|dot_general)\W.* : \((.*)\) -> (.*)", text)
    assert len(operands) >= 3  # the convolution, and an enlargement along each axis
    assert not any("bf16" in types or "bf16" in result for _, types, result in operands)
    exact = Head(3).apply(variables, x.astype(jnp.float32), (10, 12))
    np.testing.assert_array_equal(head.apply(variables, x, (10, 12)), exact)
