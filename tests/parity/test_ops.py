"""Resizing, pooling and upsampling against PyTorch's own."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.ops.pool import adaptive_avg_pool
from jaxseg.ops.resize import nearest_matrix, resize
from jaxseg.ops.upsample import conv_transpose1d, conv_transpose2d, max_pool_with_positions, max_unpool

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


@pytest.mark.parametrize(
    "size, stride, padding, extra", [(3, 2, 1, 1), (2, 2, 0, 0), (4, 2, 1, 0), ((3, 5), (2, 3), (0, 2), (1, 2))]
)
def test_transposed_convolution(peers, to_torch, assert_close, size, stride, padding, extra):
    layer = peers.torch.nn.ConvTranspose2d(3, 4, size, stride, padding, extra, bias=False)
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    kernel = jnp.asarray(layer.weight.detach().numpy().transpose(2, 3, 1, 0))
    y = conv_transpose2d(jnp.asarray(x), kernel, stride=stride, padding=padding, output_padding=extra)
    assert_close(y, layer(to_torch(x)), limit=1e-6)


def test_transposed_convolution_of_sequences(peers):
    layer = peers.torch.nn.ConvTranspose1d(3, 4, 5, 3, 2, 1, bias=False)
    x = peers.torch.randn(2, 3, 7)
    kernel = jnp.asarray(layer.weight.detach().numpy().transpose(2, 1, 0))
    y = conv_transpose1d(jnp.asarray(x.numpy().transpose(0, 2, 1)), kernel, stride=3, padding=2, output_padding=1)
    np.testing.assert_allclose(y, layer(x).detach().numpy().transpose(0, 2, 1), atol=1e-5)


def test_max_pooling_and_unpooling(peers, to_torch, assert_close):
    x = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype(np.float32)
    theirs, indices = peers.torch.nn.functional.max_pool2d(to_torch(x), 2, return_indices=True)
    ours, positions = max_pool_with_positions(jnp.asarray(x))
    assert_close(ours, theirs, limit=0)
    assert_close(max_unpool(ours, positions), peers.torch.nn.functional.max_unpool2d(theirs, indices, 2), limit=0)
