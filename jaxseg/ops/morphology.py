"""Morphology of gray values: minima and maxima over neighbors, and the soft skeleton that they make."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxseg.checks import UserError


def erode(x: Float[ArrayLike, "b h w c"], *, where: Bool[ArrayLike, "b h w"] | None = None) -> Float[Array, "b h w c"]:
    """Takes the minimum over each pixel and its four neighbors; what lies beyond the edge does not count.

    Args:
      x: of any float type.
      where: valid pixels (None means all). The others are treated as outside the image, and are 0 in the result.

    >>> erode(jnp.array([[1.0, 3.0, 2.0, 4.0]]).reshape(1, 1, 4, 1)).ravel().tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    x = _outside(x, where, jnp.inf)
    lowest = jnp.minimum(*(_slide(x, axis, jnp.minimum, jnp.inf) for axis in (1, 2)))
    return _outside(lowest, where, 0.0)


def dilate(x: Float[ArrayLike, "b h w c"], *, where: Bool[ArrayLike, "b h w"] | None = None) -> Float[Array, "b h w c"]:
    """Takes the maximum over windows of 3 x 3 pixels; what lies beyond the edge does not count.

    Args:
      x: of any float type.
      where: valid pixels (None means all). The others are treated as outside the image, and are 0 in the result.

    >>> dilate(jnp.array([[1.0, 3.0, 2.0, 4.0]]).reshape(1, 1, 4, 1)).ravel().tolist()
    [3.0, 3.0, 4.0, 4.0]
    """
    x = _outside(x, where, -jnp.inf)
    for axis in (1, 2):
        x = _slide(x, axis, jnp.maximum, -jnp.inf)
    return _outside(x, where, 0.0)


def soft_skeleton(
    x: Float[ArrayLike, "b h w c"], *, iterations: int = 3, where: Bool[ArrayLike, "b h w"] | None = None
) -> Float[Array, "b h w c"]:
    """Returns the soft skeleton of every channel (Shit et al., 2021, arXiv:2003.07311), differentiable.

    The ridges of a map are what a morphological opening, erosion then dilation, removes. The skeleton joins the ridges
    of the map, of the eroded map, of the twice eroded map, ….

    Args:
      x: in [0, 1].
      iterations: >= 0; structures of a half-width of up to this many pixels are reduced to their middle line.
      where: valid pixels (None means all). The others are treated as outside the image, and are 0 in the result.

    >>> bar = jnp.zeros((1, 5, 5, 1)).at[:, 1:4].set(1.0)
    >>> soft_skeleton(bar)[0, :, 2, 0].astype(int).tolist()
    [0, 0, 1, 0, 0]
    """
    if iterations < 0:
        raise UserError(f"`iterations` must be at least 0, got {iterations}.")

    def step(carry, _):
        x, skeleton = carry
        eroded = erode(x, where=where)
        ridge = jax.nn.relu(x - dilate(eroded, where=where))
        return (eroded, skeleton + jax.nn.relu(ridge - skeleton * ridge)), None

    # A scan, for otherwise XLA fuses all iterations into one, which computes the first again for every neighbor.
    carry = _outside(x, where, 0.0), jnp.zeros_like(x)
    (_, skeleton), _ = lax.scan(step, carry, length=iterations + 1)
    return skeleton


def _outside(x: Array, where: Array | None, value: float) -> Array:
    return x if where is None else jnp.where(where[..., None], x, jnp.array(value, x.dtype))


def _slide(x: Array, axis: int, pick: Callable[[Array, Array], Array], beyond: float) -> Array:
    """The least or greatest of each entry and its two neighbors along `axis`."""
    beyond = jnp.array(beyond, x.dtype)
    ahead, behind = [(0, 0, 0)] * x.ndim, [(0, 0, 0)] * x.ndim
    ahead[axis], behind[axis] = (-1, 1, 0), (1, -1, 0)
    return pick(pick(x, lax.pad(x, beyond, ahead)), lax.pad(x, beyond, behind))
