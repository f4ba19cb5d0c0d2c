"""Max pooling out of shifted maxima: its gradient is comparisons instead of a scatter."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.checks import UserError


def max_pool(
    x: Float[ArrayLike, "b h w c"], size: int, *, stride: int = 2, dilation: int = 1
) -> Float[Array, "b h2 w2 c"]:
    """Pools by the maximum over windows of `size` x `size` pixels, `stride` apart; sizes are rounded up.

    The window of output i is centered on pixel i * `stride`; a window of an even size, which has no center, reaches one
    pixel further to the right and down. What lies beyond the edge does not count. Where the maximum is reached more
    than once, the gradient is shared. Forward and reverse mode differentiate it any number of times.

    Args:
      x: of any float type.
      size: of the windows, in pixels, at least 1.
      stride: in pixels, at least 1.
      dilation: the distance in pixels between neighbors in a window. Pooling at stride 1, and all that follows
        at twice the dilation, gives pooling at stride 2 for every second pixel.

    >>> max_pool(jnp.arange(5.0).reshape(1, 1, 5, 1), 3).ravel().tolist()
    [1.0, 3.0, 4.0]
    >>> max_pool(jnp.arange(5.0).reshape(1, 1, 5, 1), 2).ravel().tolist()
    [1.0, 3.0, 4.0]
    >>> max_pool(jnp.arange(5.0).reshape(1, 1, 5, 1), 2, stride=1, dilation=2).ravel().tolist()
    [2.0, 3.0, 4.0, 3.0, 4.0]
    """
    if min(size, stride, dilation) < 1:
        raise UserError(
            f"max_pool expects numbers of pixels of at least 1, got size {size}, stride {stride} and"
            f" dilation {dilation}."
        )
    for axis in (1, 2):
        if size in (2, 3) and (stride, dilation) == (2, 1):
            x = _pool_pairs(x, axis, size)
        else:
            x = _pool_along(x, axis, size, stride, dilation)
    return x


def _pool_pairs(x: Array, axis: int, size: int) -> Array:
    """Pools at stride 2: neighbors are the two of a pair, which a reshape takes apart without a strided slice."""
    odd = x.shape[axis] % 2
    x = _pad(x, axis, 0, odd)
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    first, second = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
    pooled = jnp.maximum(first, second)
    return pooled if size == 2 else jnp.maximum(pooled, _pad(second, axis, 1, -1))


def _pool_along(x: Array, axis: int, size: int, stride: int, dilation: int) -> Array:
    """Pools by the maximum of `size` shifted copies of `x`."""
    length, pooled = x.shape[axis], x
    for tap in reversed(range(size)):
        shift = (tap - (size - 1) // 2) * dilation
        if 0 < abs(shift) < length:  # the tap reaches some pixel
            pooled = jnp.maximum(pooled, _pad(x, axis, -shift, shift))
    return lax.slice_in_dim(pooled, 0, length, stride, axis)


def _pad(x: Array, axis: int, before: int, after: int) -> Array:
    """Adds (or, if negative, takes away) entries along `axis`; those added are -inf."""
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (before, after, 0)
    return lax.pad(x, jnp.array(-jnp.inf, x.dtype), padding)
