"""Connected regions of a mask, on the device."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int

from jaxseg.checks import UserError
from jaxseg.ops.varying import vary_like

_NOTHING = 2**31 - 1  # the largest int32


def connected_components(mask: Bool[ArrayLike, "... h w"]) -> Int[Array, "... h w"]:
    """Labels the 4-connected regions of True pixels.

    Background is 0; a region's id is 1 + the row-major index of its first pixel. The smallest index spreads along rows
    and columns until nothing changes, so the number of passes grows with the number of bends of a region.

    >>> connected_components(jnp.array([[True, False, True], [True, False, False]])).tolist()
    [[1, 0, 3], [1, 0, 0]]
    """
    if mask.dtype != jnp.bool_ or mask.ndim < 2:
        raise UserError(f"`mask` must be booleans of shape [..., h, w], got {mask.dtype} of shape {mask.shape}.")
    h, w = mask.shape[-2:]
    ids = jnp.where(mask, jnp.arange(1, h * w + 1, dtype=jnp.int32).reshape(h, w), _NOTHING)

    def later(before, here):
        return before[0] | here[0], jnp.where(here[0], here[1], jnp.minimum(before[1], here[1]))

    def spread(state):
        ids, _ = state
        new = ids
        for axis in (mask.ndim - 1, mask.ndim - 2):
            for reverse in (False, True):
                _, new = lax.associative_scan(later, (~mask, new), reverse=reverse, axis=axis)
        return new, (new != ids).any()

    ids, _ = lax.while_loop(lambda state: state[1], spread, (ids, vary_like(True, ids)))
    return jnp.where(mask, ids, 0)
