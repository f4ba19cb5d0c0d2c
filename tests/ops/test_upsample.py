"""Upsampling: unpooling undoes pooling, a transposed convolution is the transpose of a convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.ops import transposed
from jaxseg.ops.conv import conv2d
from jaxseg.ops.max_pool import max_pool
from jaxseg.ops.resize import resize
from jaxseg.ops.upsample import (
    bed_of_nails,
    bilinear,
    bilinear_kernel,
    conv_transpose1d,
    conv_transpose2d,
    max_pool_with_positions,
    max_unpool,
    nearest,
)

# kernel, stride, padding, output padding
TRANSPOSED = [(3, 2, 1, 1), (2, 2, 0, 0), (4, 2, 1, 0), (3, 1, 1, 0), (5, 3, 2, 1), (2, 3, 0, 2), (3, 2, 0, 1)]


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("shape", [(2, 6, 6, 3), (1, 5, 7, 2), (1, 1, 1, 1)])
def test_pooling_and_unpooling(shape, size):
    x = normal(0, *shape)
    pooled, positions = max_pool_with_positions(x, size)
    if size == 2:
        np.testing.assert_array_equal(pooled, max_pool(x, 2))
    back = max_unpool(pooled, positions, shape[1:3], size=size)
    kept = np.asarray(back) != 0
    np.testing.assert_array_equal(back[kept], x[kept])
    assert kept.sum() == pooled.size, "one pixel a window"
    again, _ = max_pool_with_positions(jnp.where(back == 0, -jnp.inf, back), size)
    np.testing.assert_array_equal(again, pooled)


def test_the_first_of_equals_has_the_gradient():
    x = jnp.ones((1, 2, 2, 1))
    gradient = jax.grad(lambda x: max_pool_with_positions(x)[0].sum())(x)
    np.testing.assert_array_equal(gradient.ravel(), [1, 0, 0, 0])


def test_gradients_of_unpooling_go_where_the_values_came_from():
    x = normal(0, 1, 5, 6, 2)
    weights = normal(1, 1, 5, 6, 2)

    def loss(x):
        pooled, positions = max_pool_with_positions(x)
        return (max_unpool(3 * pooled, positions, (5, 6)) * weights).sum()

    gradient = jax.grad(loss)(x)
    kept = max_unpool(*max_pool_with_positions(x), (5, 6)) != 0
    np.testing.assert_allclose(gradient, jnp.where(kept, 3 * weights, 0), rtol=1e-6)


def test_nothing_is_gathered_or_scattered():
    def f(x, kernel):
        pooled, positions = max_pool_with_positions(x)
        y = max_unpool(pooled, positions, x.shape[1:3]) + bed_of_nails(pooled)[:, :5, :7] + nearest(pooled)[:, :5, :7]
        return (bilinear(y) * conv_transpose2d(y, kernel, stride=2, padding=1, output_padding=1)).sum()

    text = jax.jit(jax.grad(f, (0, 1))).lower(normal(0, 1, 5, 7, 2), normal(1, 3, 3, 2, 2)).as_text()
    assert "scatter" not in text and "gather" not in text


@pytest.mark.parametrize("way", ["_phases", "_spread"])
@pytest.mark.parametrize("size, stride, padding, extra", TRANSPOSED)
def test_it_is_the_transpose_of_a_convolution(way, size, stride, padding, extra):
    x, kernel = normal(0, 2, 4, 3, 5), normal(1, size, size, 6, 5)
    y = getattr(transposed, way)(x, kernel, (stride,) * 2, (padding,) * 2, (extra,) * 2)
    big = jnp.zeros(y.shape)

    def convolve(big):
        return conv2d(big, kernel, stride=stride, padding=padding)

    np.testing.assert_allclose(y, jax.linear_transpose(convolve, big)(x)[0], atol=1e-4)


@pytest.mark.parametrize("size, stride, padding, extra", TRANSPOSED)
def test_its_gradients_are_those_of_the_definition(size, stride, padding, extra):
    options = (stride,) * 2, (padding,) * 2, (extra,) * 2
    x, kernel = normal(0, 2, 4, 3, 5), normal(1, size, size, 6, 5)
    weights = normal(2, *transposed._spread(x, kernel, *options).shape)

    def loss(way):
        return jax.grad(lambda x, kernel: (way(x, kernel) * weights).sum(), (0, 1))

    def ours(x, kernel):
        return conv_transpose2d(x, kernel, stride=stride, padding=padding, output_padding=extra)

    expected = loss(lambda x, kernel: transposed._spread(x, kernel, *options))(x, kernel)
    for a, b in zip(loss(ours)(x, kernel), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("stride", [2, 3, 8])
def test_the_bilinear_kernel_interpolates(stride):
    size = 2 * stride - stride % 2
    x, kernel = normal(0, 1, 5, 6, 1), jnp.asarray(bilinear_kernel(size, stride))[..., None, None]
    y = conv_transpose2d(x, kernel, stride=stride, padding=(size - stride) // 2)
    inside = np.s_[:, stride:-stride, stride:-stride]
    np.testing.assert_allclose(y[inside], resize(x, (5 * stride, 6 * stride))[inside], atol=1e-5)


def test_sequences():
    x, kernel = normal(0, 2, 5, 3), normal(1, 4, 2, 3)
    y = conv_transpose1d(x, kernel, stride=2, padding=1)
    image = conv_transpose2d(x[:, :, None], kernel[:, None], stride=(2, 1), padding=(1, 0))
    np.testing.assert_allclose(y, image[:, :, 0], atol=1e-5)


def test_compute_types_and_mistakes():
    x = normal(0, 1, 4, 4, 2).astype(jnp.bfloat16)
    pooled, positions = max_pool_with_positions(x)
    assert (pooled.dtype, positions.dtype) == (jnp.bfloat16, jnp.int8)
    assert max_unpool(pooled, positions).dtype == jnp.bfloat16
    assert conv_transpose2d(x, jnp.ones((2, 2, 3, 2), jnp.bfloat16), stride=2).dtype == jnp.bfloat16
    with pytest.raises(UserError, match="not to"):
        max_unpool(pooled, positions, (7, 4))
    with pytest.raises(UserError, match="less than the stride"):
        conv_transpose2d(x, jnp.ones((2, 2, 3, 2)), output_padding=1)
    with pytest.raises(UserError, match=r"kernel\[kh, kw, o, i\]"):
        conv_transpose2d(x, jnp.ones((2, 2, 2, 3)))
    with pytest.raises(UserError, match="leaves nothing"):
        conv_transpose2d(x, jnp.ones((1, 1, 3, 2), jnp.bfloat16), padding=2)
