"""Upsampling, without a gather or a scatter forwards or backwards.

Without parameters: `nearest`, `bilinear`, `bed_of_nails`, and `max_unpool`, which puts every value back to the position
that `max_pool_with_positions` returned. With a kernel: `conv_transpose1d` and `conv_transpose2d`. Resizing to a given
size is in `jaxseg.ops.resize`.
"""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int8

from jaxseg.checks import UserError
from jaxseg.ops.resize import repeat, resize
from jaxseg.ops.transposed import conv_transpose1d, conv_transpose2d

__all__ = [
    "bed_of_nails",
    "bilinear",
    "bilinear_kernel",
    "conv_transpose1d",
    "conv_transpose2d",
    "max_pool_with_positions",
    "max_unpool",
    "nearest",
]


def nearest(x: Float[ArrayLike, "b h w c"], times: int = 2) -> Float[Array, "b h2 w2 c"]:
    """Repeats every pixel `times` x `times` times.

    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    >>> print(nearest(x)[0, :, :, 0])
    [[1. 1. 2. 2.]
     [1. 1. 2. 2.]
     [3. 3. 4. 4.]
     [3. 3. 4. 4.]]
    """
    return repeat(x, times, times)


def bilinear(
    x: Float[ArrayLike, "b h w c"], times: int = 2, *, align_corners: bool = False
) -> Float[Array, "b h2 w2 c"]:
    """Interpolates linearly along both axes to `times` the size.

    Args:
      x: feature maps.
      times: new pixels for each old one, along each axis.
      align_corners: whether the centers of the corner pixels stay in place, rather than the image's corners.

    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    >>> print(bilinear(x)[0, :, :, 0])
    [[1.   1.25 1.75 2.  ]
     [1.5  1.75 2.25 2.5 ]
     [2.5  2.75 3.25 3.5 ]
     [3.   3.25 3.75 4.  ]]
    >>> print(3 * bilinear(x, align_corners=True)[0, 0, :, 0])
    [3. 4. 5. 6.]
    """
    _, h, w, _ = x.shape
    return resize(x, (h * times, w * times), align_corners=align_corners)


def bed_of_nails(x: Float[ArrayLike, "b h w c"], times: int = 2) -> Float[Array, "b h2 w2 c"]:
    """Puts every pixel into the upper left corner of a window of `times` x `times` zeros.

    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    >>> print(bed_of_nails(x)[0, :, :, 0])
    [[1. 0. 2. 0.]
     [0. 0. 0. 0.]
     [3. 0. 4. 0.]
     [0. 0. 0. 0.]]
    """
    between = (0, times - 1, times - 1)
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), between, between, (0, 0, 0)))


def max_pool_with_positions(
    x: Float[ArrayLike, "b h w c"], size: int = 2
) -> tuple[Float[Array, "b h2 w2 c"], Int8[Array, "b h2 w2 c"]]:
    """Pools by the maximum over windows of `size` x `size` pixels side by side, and returns their positions.

    If `size` does not divide the image, the last windows are incomplete. Of equal pixels the first is the maximum, and
    it alone gets the gradient, as in PyTorch.

    Args:
      x: of any float type.
      size: of the windows, in pixels, at most 11.

    Returns:
      The maxima, ceil(h / size) x ceil(w / size), and their positions within the windows: row * size + column.

    >>> x = jnp.array([[1.0, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]]).reshape(1, 4, 4, 1)
    >>> pooled, positions = max_pool_with_positions(x)
    >>> print(pooled[0, :, :, 0])
    [[5. 6.]
     [7. 8.]]
    >>> print(positions[0, :, :, 0])
    [[3 0]
     [2 3]]
    """
    if not 1 <= size <= 11:
        raise UserError(f"max_pool_with_positions has windows of 1 to 11 pixels, got {size}.")
    pixels = _windows(x, size)
    pooled, positions = pixels[0], jnp.zeros(pixels[0].shape, jnp.int8)
    for position, pixel in enumerate(pixels[1:], start=1):
        better = pixel > pooled
        pooled = jnp.where(better, pixel, pooled)
        positions = jnp.where(better, jnp.int8(position), positions)
    return pooled, positions


def max_unpool(
    x: Float[ArrayLike, "b h w c"],
    positions: Int8[ArrayLike, "b h w c"],
    new_size: tuple[int, int] | None = None,
    *,
    size: int = 2,
) -> Float[Array, "b h2 w2 c"]:
    """Puts every value at the position of the maximum in its window; zeros elsewhere.

    Zeiler & Fergus, 2013, arXiv:1311.2901, section 2.1.

    Args:
      x: values, of any float type.
      positions: within the windows, as `max_pool_with_positions` returns them.
      new_size: (height, width) before pooling; None means that all windows were complete.
      size: of the windows, in pixels.

    >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    >>> positions = jnp.array([[3, 0], [2, 3]], jnp.int8).reshape(1, 2, 2, 1)
    >>> print(max_unpool(x, positions)[0, :, :, 0])
    [[0. 0. 2. 0.]
     [0. 1. 0. 0.]
     [0. 0. 0. 0.]
     [3. 0. 0. 4.]]
    """
    b, h, w, c = x.shape
    height, width = new_size or (h * size, w * size)
    if (-(-height // size), -(-width // size)) != (h, w):
        raise UserError(
            f"Windows of {size} pixels pool {(height, width)} not to {(h, w)}. Give the size before pooling."
        )
    # the window's axes, against which the positions are compared, come between those of the map
    position = jnp.arange(size * size, dtype=jnp.int8).reshape(1, 1, size, 1, size, 1)
    spread = jnp.where(positions[:, :, None, :, None, :] == position, x[:, :, None, :, None, :], 0)
    return spread.reshape(b, h * size, w * size, c)[:, :height, :width]


def _windows(x: Array, size: int) -> list[Array]:
    """The first pixel of every window, the second, …, row by row; pixels beyond the edge are -inf."""
    b, h, w, c = x.shape
    below, beside = -h % size, -w % size
    x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), ((0, 0, 0), (0, below, 0), (0, beside, 0), (0, 0, 0)))
    x = x.reshape(b, (h + below) // size, size, (w + beside) // size, size, c)
    return [x[:, :, row, :, column] for row in range(size) for column in range(size)]


@lru_cache(maxsize=64)
def bilinear_kernel(size: int, stride: int) -> np.ndarray:
    """The [size, size] kernel with which a transposed convolution at `stride` interpolates bilinearly.

    Long et al., 2015, arXiv:1411.4038, section 3.3. With `size` = 2 * `stride` - `stride` % 2 and padding
    (size - stride) / 2 the interpolation is exact except at the edge, where zeros are outside.

    >>> bilinear_kernel(4, 2)[1]
    array([0.1875, 0.5625, 0.5625, 0.1875], dtype=float32)
    """
    taps = np.maximum(1 - np.abs(np.arange(size) - (size - 1) / 2) / stride, 0)
    return np.outer(taps, taps).astype(np.float32)
