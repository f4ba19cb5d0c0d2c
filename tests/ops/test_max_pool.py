"""Max pooling against XLA's own window reduction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.checks import UserError
from jaxseg.ops.max_pool import max_pool


def reference(x, size):
    beyond = [(0, n % 2) if size == 2 else (1, 1) for n in x.shape[1:3]]
    return nn.max_pool(x, (size, size), strides=(2, 2), padding=beyond)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("shape", [(2, 6, 7, 3), (1, 1, 4, 2), (1, 1, 1, 1)])
def test_values_and_gradients(size, shape):
    x = jax.random.normal(jax.random.key(0), shape)  # no two numbers alike
    expected = reference(x, size)
    np.testing.assert_array_equal(max_pool(x, size), expected)
    weights = jax.random.normal(jax.random.key(1), expected.shape)
    ours, theirs = (jax.grad(lambda x, f=f: (f(x, size) * weights).sum())(x) for f in (max_pool, reference))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "dilation, shape", [(1, (2, 6, 7, 3)), (2, (1, 5, 4, 2)), (4, (1, 3, 9, 1)), (2, (1, 1, 1, 1))]
)
def test_dilated_at_stride_1(size, dilation, shape):
    x = jax.random.normal(jax.random.key(0), shape)
    before = 0 if size == 2 else dilation
    expected = jax.lax.reduce_window(
        x,
        -jnp.inf,
        jax.lax.max,
        (1, size, size, 1),
        (1, 1, 1, 1),
        ((0, 0), (before, dilation), (before, dilation), (0, 0)),
        window_dilation=(1, dilation, dilation, 1),
    )
    np.testing.assert_array_equal(max_pool(x, size, stride=1, dilation=dilation), expected)


def test_the_gradient_is_no_scatter():
    x = jnp.zeros((1, 8, 8, 2))
    text = jax.jit(jax.grad(lambda x: max_pool(x, 3).sum())).lower(x).as_text()
    assert "scatter" not in text


def test_bfloat16_and_not_a_number():
    x = jnp.array([1.0, jnp.nan, 2.0, 3.0], jnp.bfloat16).reshape(1, 1, 4, 1)
    pooled = max_pool(x, 2)
    assert pooled.dtype == jnp.bfloat16
    np.testing.assert_array_equal(pooled.ravel().astype(np.float32), [np.nan, 3.0])


@pytest.mark.parametrize("size, stride, dilation", [(1, 2, 1), (2, 3, 1), (3, 2, 2), (4, 1, 1), (5, 3, 1), (4, 2, 3)])
@pytest.mark.parametrize("shape", [(2, 7, 10, 2), (1, 1, 4, 1)])
def test_any_window(size, stride, dilation, shape):
    x = jax.random.normal(jax.random.key(0), shape)
    before, extent = (size - 1) // 2 * dilation, (size - 1) * dilation + 1
    padding = [(before, max(0, -(-n // stride) * stride + extent - n - before)) for n in shape[1:3]]
    expected = jax.lax.reduce_window(
        x,
        -jnp.inf,
        jax.lax.max,
        (1, size, size, 1),
        (1, stride, stride, 1),
        ((0, 0), *padding, (0, 0)),
        window_dilation=(1, dilation, dilation, 1),
    )
    high, wide = (-(-n // stride) for n in shape[1:3])
    np.testing.assert_array_equal(max_pool(x, size, stride=stride, dilation=dilation), expected[:, :high, :wide])


def test_windows_without_pixels_are_refused():
    x = jnp.zeros((1, 4, 4, 1))
    for options in ({"size": 0}, {"size": 2, "stride": 0}, {"size": 2, "dilation": 0}):
        with pytest.raises(UserError, match="at least 1"):
            max_pool(x, **options)
