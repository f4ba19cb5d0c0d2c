"""Connected regions of a mask, on the device."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from jaxseg.checks import UserError

_NOTHING = 2**31 - 1  # the largest int32


def connected_components(mask: Bool[Array, "... h w"]) -> Int[Array, "... h w"]:
    """Numbers the regions of True pixels that touch at their sides: 0 outside, else one more than the index, row by
    row, of the region's first pixel.

    The least index spreads along every run of a row, then of a column, both ways, until nothing changes: as many times
    as the most winding region has bends.

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

    ids, _ = lax.while_loop(lambda state: state[1], spread, (ids, jnp.bool_(True)))
    return jnp.where(mask, ids, 0)
