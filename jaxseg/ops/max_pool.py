"""Max pooling out of shifted maxima: its gradient is comparisons instead of a scatter."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.checks import UserError


def max_pool(x: Float[Array, "b h w c"], size: int, *, stride: int = 2, rate: int = 1) -> Float[Array, "b h2 w2 c"]:
    """Pools by the maximum over windows of `size` x `size` pixels, `stride` apart; sizes are rounded up.

    A window of 2 starts at its pixel, one of 3 is centred there; what lies beyond the edge does not count. Where the
    maximum is reached more than once, the gradient is shared.

    Args:
      x: of any float type.
      size: 2 or 3, in pixels.
      stride: 1 or 2, in pixels.
      rate: dilation, the distance in pixels between neighbours in a window; 1 if `stride` is 2. Pooling at stride 1,
        and all that follows at twice the rate, gives pooling at stride 2 for every second pixel.

    >>> max_pool(jnp.arange(5.0).reshape(1, 1, 5, 1), 3).ravel().tolist()
    [1.0, 3.0, 4.0]
    >>> max_pool(jnp.arange(5.0).reshape(1, 1, 5, 1), 2).ravel().tolist()
    [1.0, 3.0, 4.0]
    >>> max_pool(jnp.arange(5.0).reshape(1, 1, 5, 1), 2, stride=1, rate=2).ravel().tolist()
    [2.0, 3.0, 4.0, 3.0, 4.0]
    """
    if size not in (2, 3):
        raise UserError(f"max_pool has windows of 2 or 3 pixels, got {size}.")
    if stride not in (1, 2) or rate < 1 or (stride == 2 and rate != 1):
        raise UserError(f"max_pool has stride 1 at any rate or stride 2 at rate 1, got stride {stride} at rate {rate}.")
    for axis in (1, 2):
        x = _pool_along(x, axis, size) if stride == 2 else _slide_along(x, axis, size, rate)
    return x


def _pool_along(x: Array, axis: int, size: int) -> Array:
    odd = x.shape[axis] % 2
    x = _pad(x, axis, 0, odd)
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    first, second = (lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1))
    pooled = jnp.maximum(first, second)
    return pooled if size == 2 else jnp.maximum(pooled, _pad(second, axis, 1, -1))


def _slide_along(x: Array, axis: int, size: int, rate: int) -> Array:
    if rate >= x.shape[axis]:  # no neighbour within the picture
        return x
    pooled = jnp.maximum(x, _pad(x, axis, -rate, rate))
    return pooled if size == 2 else jnp.maximum(pooled, _pad(x, axis, rate, -rate))


def _pad(x: Array, axis: int, before: int, after: int) -> Array:
    """Adds (or, if negative, takes away) entries along `axis`; those added are -inf."""
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (before, after, 0)
    return lax.pad(x, jnp.array(-jnp.inf, x.dtype), padding)
