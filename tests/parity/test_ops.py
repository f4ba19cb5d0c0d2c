"""Resizing and pooling against PyTorch's own."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.ops.pool import adaptive_avg_pool
from jaxseg.ops.resize import nearest_matrix, resize

SIZES = [((8, 6), (16, 24)), ((5, 7), (11, 9)), ((12, 9), (5, 4)), ((1, 3), (4, 1)), ((45, 60), (360, 480))]


@pytest.mark.parametrize("old, new", SIZES)
def test_resize(peers, to_torch, assert_close, old, new):
    x = np.random.default_rng(0).normal(size=(2, *old, 3)).astype(np.float32)
    interpolate = peers.torch.nn.functional.interpolate
    for align_corners in (False, True):
        expected = interpolate(to_torch(x), new, mode="bilinear", align_corners=align_corners)
        assert_close(resize(jnp.asarray(x), new, align_corners=align_corners), expected, limit=1e-5)
    assert_close(resize(jnp.asarray(x), new, "nearest"), interpolate(to_torch(x), new), limit=0)


def test_nearest_rounds_as_pytorch_does_at_every_ratio(peers):
    for old in (3, 7, 10, 49):
        x = peers.torch.arange(old, dtype=peers.torch.float32)
        for new in range(1, 120):
            expected = peers.torch.nn.functional.interpolate(x[None, None], new).numpy().ravel()
            np.testing.assert_array_equal(nearest_matrix(old, new) @ x.numpy(), expected, f"{old} to {new}")


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (6, 6)])
def test_adaptive_pooling(peers, to_torch, assert_close, size):
    x = np.random.default_rng(0).normal(size=(2, 10, 5, 3)).astype(np.float32)
    expected = peers.torch.nn.functional.adaptive_avg_pool2d(to_torch(x), size)
    assert_close(adaptive_avg_pool(jnp.asarray(x), size), expected, limit=1e-6)
