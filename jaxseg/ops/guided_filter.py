"""The guided filter: smoothing that follows the edges of an image, computed from sums over windows."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxseg.checks import UserError


def window_sum(x: Float[ArrayLike, "b h w c"], radius: int) -> Float[Array, "b h w c"]:
    """Sums over windows with sides of 2·radius + 1 pixels, zeros outside, in about 4·log2(radius) additions.

    Sums of 1, 2, 4, … neighbors are computed from each other and then combined; unlike running totals, this loses no
    digits.

    >>> window_sum(jnp.arange(5.0).reshape(1, 1, 5, 1), 1).ravel().tolist()
    [1.0, 3.0, 6.0, 9.0, 7.0]
    """
    for axis in (1, 2):
        size, width = x.shape[axis], 2 * radius + 1
        pad = [(0, 0)] * x.ndim
        pad[axis] = (radius, radius)
        power, total, offset = jnp.moveaxis(jnp.pad(x, pad), axis, 0), 0.0, 0
        for bit in range(width.bit_length()):
            if width >> bit & 1:
                total = total + power[offset : offset + size]
                offset += 1 << bit
            if width >> (bit + 1):
                power = power[: -(1 << bit)] + power[1 << bit :]
        x = jnp.moveaxis(total, 0, axis)
    return x


def guided_filter(
    guide: Float[ArrayLike, "b h w k"],
    values: Float[ArrayLike, "b h w c"],
    *,
    radius: int,
    eps: float,
    where: Bool[ArrayLike, "b h w"] | None = None,
) -> Float[Array, "b h w c"]:
    """Fits `values` by affine functions of the guide in every window, and averages them (He, Sun & Tang, 2010, eq. 14).

    "Guided image filtering", ECCV 2010 and TPAMI 2013. Windows are cropped at the border, as in the authors' code.

    Args:
      guide: the image, any number of channels, in the units of √eps, usually 0 to 1.
      values: maps to filter, any number of channels; the result has the same mean.
      radius: of the windows, in pixels; their sides have 2·radius + 1.
      eps: variance of the guide, in its units squared, below which a window is treated as flat; positive.
      where: valid pixels (None means all). The others are left out of every window and are 0 in the result.

    >>> from jax import jit
    >>> guide = jnp.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).reshape(1, 1, 6, 1)
    >>> noisy = jnp.array([0.0, 0.5, 0.0, 1.0, 0.8, 1.0]).reshape(1, 1, 6, 1)
    >>> print(jit(lambda g, x: guided_filter(g, x, radius=5, eps=1e-4))(guide, noisy).round(2).ravel())
    [0.17 0.17 0.17 0.93 0.93 0.93]
    """
    if radius < 1 or not eps > 0:
        raise UserError(f"A guided filter needs a radius of at least 1 pixel and eps > 0, got {radius} and {eps}.")
    if guide.shape[:3] != values.shape[:3]:
        raise UserError(f"Guide {guide.shape} and values {values.shape} disagree: expected one size and number.")
    where = jnp.ones((*values.shape[:3], 1), bool) if where is None else where[..., None]
    count = jnp.maximum(window_sum(where.astype(jnp.float32), radius), 1)

    def mean(x):
        return window_sum(jnp.where(where, x, 0), radius) / count

    guide, values = guide.astype(jnp.float32), values.astype(jnp.float32)
    pixels = jnp.maximum(where.sum((1, 2), keepdims=True), 1).astype(jnp.float32)
    middle = jnp.where(where, guide, 0).sum((1, 2), keepdims=True) / pixels
    guide = guide - middle  # differences of squares then lose fewer digits
    channels = [guide[..., k : k + 1] for k in range(guide.shape[-1])]
    means, base = [mean(channel) for channel in channels], mean(values)
    covariance = [
        [mean(a * b) - m * n + (eps if a is b else 0) for b, n in zip(channels, means, strict=True)]
        for a, m in zip(channels, means, strict=True)
    ]
    shared = [mean(a * values) - m * base for a, m in zip(channels, means, strict=True)]
    slopes = _solve(covariance, shared)
    base = base - sum(slope * m for slope, m in zip(slopes, means, strict=True))
    fitted = mean(base) + sum(mean(slope) * channel for slope, channel in zip(slopes, channels, strict=True))
    return jnp.where(where, fitted, 0)


def _solve(matrix, right):
    """Solves positive definite systems, one per pixel, by elimination: rows are lists, entries are arrays."""
    size = len(right)
    matrix, right = [list(row) for row in matrix], list(right)
    for i in range(size):
        for j in range(i + 1, size):
            factor = matrix[j][i] / matrix[i][i]
            matrix[j] = [b - factor * a for a, b in zip(matrix[i], matrix[j], strict=True)]
            right[j] = right[j] - factor * right[i]
    solution = [0.0] * size
    for i in reversed(range(size)):
        known = sum(matrix[i][k] * solution[k] for k in range(i + 1, size))
        solution[i] = (right[i] - known) / matrix[i][i]
    return solution
