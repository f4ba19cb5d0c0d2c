"""Exact sums of fractions, as integers, so that order, batches and devices do not change a bit."""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Integer

_LOW = 12  # bits of the lowest limb
_MIDDLE = 13  # bits of the next one; the third holds the rest
_UNIT = 2.0**-24  # what is counted: half of the spacing of float32 below 1


def fixed_sum(values: Float[ArrayLike, "b h w ..."], limit: float = 1.0) -> Int[Array, "3 ..."]:
    """Returns Σ values over images, rows and columns as three int32 limbs, which add up without a carry.

    A value is rounded to a multiple of 2^-24 · `limit`, so the mean of any number of values is off by at most half of
    that. Columns may be 32,768 at most, rows times images 65,536.

    Args:
      values: in [0, limit]; beyond it they are clipped.
      limit: a power of two.

    >>> limbs = fixed_sum(jnp.full((1, 3, 4), 0.75))
    >>> float(fixed_value(limbs))
    9.0
    """
    units = jnp.round(jnp.clip(values.astype(jnp.float32) / limit, 0.0, 1.0) / _UNIT).astype(jnp.int32)
    low, rest = (units & (2**_LOW - 1)).sum(2), (units >> _LOW).sum(2)
    rest = rest + (low >> _LOW)
    limbs = low & (2**_LOW - 1), rest & (2**_MIDDLE - 1), rest >> _MIDDLE
    return jnp.stack([limb.sum((0, 1)) for limb in limbs])


def fixed_value(limbs: Integer[ArrayLike, "3 ..."], limit: float = 1.0) -> Float[np.ndarray, "..."] | np.float64:
    """Returns the sum that `fixed_sum` counted, or several of its results added up, in float64 on the host."""
    low, middle, high = np.asarray(limbs, np.float64)
    return (low + 2.0**_LOW * (middle + 2.0**_MIDDLE * high)) * (_UNIT * limit)
