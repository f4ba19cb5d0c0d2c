"""Pooling against its definition."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.ops.pool import adaptive_avg_pool, avg_pool, global_avg_pool, padded_avg_pool


@pytest.mark.parametrize("stride, dilation", [(2, 1), (1, 1), (1, 2), (1, 5)])
@pytest.mark.parametrize("size", [(6, 7), (4, 1), (3, 3)])
def test_windows_of_two_count_what_lies_within(size, stride, dilation):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    rows, columns = (range(0, n, stride) for n in size)
    windows = [
        [x[:, i : i + dilation + 1 : dilation, j : j + dilation + 1 : dilation].mean((1, 2)) for j in columns]
        for i in rows
    ]
    expected = np.moveaxis(np.array(windows), 2, 0)
    np.testing.assert_allclose(avg_pool(jnp.asarray(x), stride=stride, dilation=dilation), expected, atol=1e-6)


def test_other_strides_are_refused():
    with pytest.raises(UserError, match="got stride 2 and dilation 2"):
        avg_pool(jnp.zeros((1, 4, 4, 1)), dilation=2)


@pytest.mark.parametrize("window, stride", [(5, 2), (9, 4), (3, 1), (1, 3)])
@pytest.mark.parametrize("size", [(6, 7), (1, 4), (12, 9)])
def test_windows_of_odd_sizes_count_the_zeros_beyond_the_edge(size, window, stride):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (window // 2,) * 2, (window // 2,) * 2, (0, 0)))
    rows, columns = (range(0, n, stride) for n in size)
    windows = [[padded[:, i : i + window, j : j + window].mean((1, 2)) for j in columns] for i in rows]
    expected = np.moveaxis(np.array(windows), 2, 0)
    np.testing.assert_allclose(padded_avg_pool(jnp.asarray(x), window, stride), expected, atol=1e-6)


def test_windows_without_a_middle_are_refused():
    with pytest.raises(UserError, match="odd size and a stride >= 1, got 4 and 2"):
        padded_avg_pool(jnp.zeros((1, 4, 4, 1)), 4, 2)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (6, 6), (9, 4)])
def test_adaptive_bins_overlap_and_repeat(size):
    x = np.random.default_rng(0).normal(size=(2, 7, 4, 3)).astype(np.float32)
    expected = np.empty((2, *size, 3))
    for i in range(size[0]):
        for j in range(size[1]):
            rows = slice(int(np.floor(i * 7 / size[0])), int(np.ceil((i + 1) * 7 / size[0])))
            columns = slice(int(np.floor(j * 4 / size[1])), int(np.ceil((j + 1) * 4 / size[1])))
            expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(adaptive_avg_pool(jnp.asarray(x), size), expected, atol=1e-6)


def test_averages_of_bfloat16_are_computed_in_float32():
    x = jnp.full((1, 64, 64, 1), 1.0, jnp.bfloat16)  # summed in bfloat16, 4096 ones stop at 256
    for pooled in (global_avg_pool(x), adaptive_avg_pool(x, (1, 1))):
        assert pooled.dtype == jnp.bfloat16
        assert pooled.shape == (1, 1, 1, 1)
        assert pooled.item() == 1.0
    windows = padded_avg_pool(x, 127, 64)
    assert windows.dtype == jnp.bfloat16
    assert windows.item() == jnp.bfloat16((64 / 127) ** 2)
