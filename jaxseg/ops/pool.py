"""Pooling: over windows, over everything, and over a fixed number of bins."""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxseg.ops.resize import mix


def global_avg_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b 1 1 c"]:
    """Averages over all positions, in float32.

    >>> global_avg_pool(jnp.arange(4.0).reshape(1, 2, 2, 1)).item()
    1.5
    """
    return x.mean((1, 2), keepdims=True, dtype=jnp.float32).astype(x.dtype)


def adaptive_avg_pool(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b h2 w2 c"]:
    """Averages over `size` bins, in float32, as PyTorch's `adaptive_avg_pool2d` divides the map.

    Bin i of n spans floor(i * h / n) to ceil((i + 1) * h / n): bins overlap where n does not divide h, and repeat
    pixels where the map is smaller than n.

    >>> adaptive_avg_pool(jnp.arange(3.0).reshape(1, 1, 3, 1), (1, 2)).ravel().tolist()
    [0.5, 1.5]
    """
    rows, columns = (bin_matrix(old, new) for old, new in zip(x.shape[1:3], size, strict=True))
    return mix(x.astype(jnp.float32), rows, columns).astype(x.dtype)


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
