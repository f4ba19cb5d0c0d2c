"""Pooling: over windows, over everything, and over a fixed number of bins."""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.checks import UserError
from jaxseg.ops.resize import apply_along_height_and_width


def global_avg_pool(x: Float[ArrayLike, "b h w c"]) -> Float[Array, "b 1 1 c"]:
    """Averages over all positions, in float32.

    >>> global_avg_pool(jnp.arange(4.0).reshape(1, 2, 2, 1)).item()
    1.5
    """
    return jnp.mean(x, (1, 2), keepdims=True, dtype=jnp.float32).astype(x.dtype)


def avg_pool(x: Float[ArrayLike, "b h w c"], *, stride: int = 2, dilation: int = 1) -> Float[Array, "b h2 w2 c"]:
    """Averages over windows of 2 x 2 pixels, `stride` apart, in float32; sizes are rounded up.

    Pixels beyond the edge are left out of the average.

    Args:
      x: of any float type.
      stride: 1 or 2, in pixels.
      dilation: the distance in pixels between neighbors in a window; 1 if `stride` is 2.

    >>> avg_pool(jnp.arange(5.0).reshape(1, 1, 5, 1)).ravel().tolist()
    [0.5, 2.5, 4.0]
    >>> avg_pool(jnp.arange(5.0).reshape(1, 1, 5, 1), stride=1, dilation=2).ravel().tolist()
    [1.0, 2.0, 3.0, 3.0, 4.0]
    """
    if stride not in (1, 2) or dilation < 1 or (stride == 2 and dilation != 1):
        raise UserError(
            f"avg_pool has stride 1 at any dilation, or stride 2 at dilation 1; got stride {stride} and"
            f" dilation {dilation}."
        )
    pooled = x.astype(jnp.float32)
    for axis in (1, 2):
        first, second = _neighbors(pooled, axis, stride, dilation)
        pooled = (first + second) / 2
    return pooled.astype(x.dtype)


def _neighbors(x: Array, axis: int, stride: int, dilation: int) -> tuple[Array, Array]:
    """Both elements of each size-2 window along `axis`; an incomplete window repeats its only element."""
    size = x.shape[axis]
    if stride == 1:
        ahead = lax.slice_in_dim(x, min(dilation, size), size, axis=axis)
        return x, jnp.concatenate([ahead, lax.slice_in_dim(x, max(size - dilation, 0), size, axis=axis)], axis)
    if size % 2:
        x = jnp.concatenate([x, lax.slice_in_dim(x, size - 1, size, axis=axis)], axis)
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    first, second = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
    return first, second


def padded_avg_pool(x: Float[ArrayLike, "b h w c"], size: int, stride: int) -> Float[Array, "b h2 w2 c"]:
    """Averages over windows of `size` x `size` pixels, `stride` apart, in float32; sizes are rounded up.

    The first window is centered on the first pixel. Pixels beyond the edge are zeros that count, as in PyTorch's
    `avg_pool2d` with a padding of (size - 1) / 2.

    Args:
      x: of any float type.
      size: of a window, an odd number of pixels.
      stride: in pixels.

    >>> padded_avg_pool(jnp.full((1, 1, 5, 1), 9.0), 3, 2).ravel().tolist()
    [2.0, 3.0, 2.0]
    """
    if size % 2 == 0 or size < 1 or stride < 1:
        raise UserError(f"padded_avg_pool has windows of an odd size and a stride >= 1, got {size} and {stride}.")
    rows, columns = (window_matrix(n, size, stride) for n in x.shape[1:3])
    return apply_along_height_and_width(x.astype(jnp.float32), rows, columns).astype(x.dtype)


@lru_cache(maxsize=256)
def window_matrix(size: int, window: int, stride: int) -> np.ndarray:
    """The matrix that averages `size` pixels over windows, `stride` apart, with zeros beyond the edge.

    >>> window_matrix(3, 3, 2) * 3
    array([[1., 1., 0.],
           [0., 1., 1.]], dtype=float32)
    """
    away = np.arange(size) - np.arange(0, size, stride)[:, None]
    return ((abs(away) <= window // 2) / window).astype(np.float32)


def adaptive_avg_pool(x: Float[ArrayLike, "b h w c"], size: tuple[int, int]) -> Float[Array, "b h2 w2 c"]:
    """Averages over (height, width) = `size` bins, in float32, with the bins of PyTorch's `adaptive_avg_pool2d`.

    Bin i of n spans floor(i * h / n) to ceil((i + 1) * h / n): bins overlap where n does not divide h, and repeat
    pixels where the map is smaller than n.

    >>> adaptive_avg_pool(jnp.arange(3.0).reshape(1, 1, 3, 1), (1, 2)).ravel().tolist()
    [0.5, 1.5]
    """
    rows, columns = (bin_matrix(old, new) for old, new in zip(x.shape[1:3], size, strict=True))
    return apply_along_height_and_width(x.astype(jnp.float32), rows, columns).astype(x.dtype)


@lru_cache(maxsize=256)
def bin_matrix(size: int, bins: int) -> np.ndarray:
    """The [bins, size] matrix that averages over each bin.

    >>> bin_matrix(3, 2)
    array([[0.5, 0.5, 0. ],
           [0. , 0.5, 0.5]], dtype=float32)
    """
    i, pixel = np.arange(bins)[:, None], np.arange(size)
    inside = (pixel >= i * size // bins) & (pixel < -(-(i + 1) * size // bins))
    return (inside / inside.sum(1, keepdims=True)).astype(np.float32)
