"""Mirror images beyond the border."""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.ops.resize import apply_along_height_and_width


def mirror(
    x: Float[ArrayLike, "b h w c"], before: tuple[int, int], new_size: tuple[int, int]
) -> Float[Array, "b h2 w2 c"]:
    """Extends an image to `new_size` by its mirror images, as often as it takes (fig. 2, "overlap-tile").

    Args:
      x: the image.
      before: rows above and columns to the left that are added.
      new_size: (height, width) of the result.

    >>> import jax.numpy as jnp
    >>> mirror(jnp.arange(3.0).reshape(1, 1, 3, 1), (0, 3), (1, 8)).ravel().tolist()
    [1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 1.0, 0.0]
    """

    def picks(old: int, first: int, new: int) -> np.ndarray:  # a matrix: a gather's gradient would be a scatter
        period = max(2 * (old - 1), 1)
        position = (np.arange(new) - first) % period
        return np.eye(old, dtype=np.float32)[np.minimum(position, period - position) if old > 1 else 0 * position]

    rows, columns = (picks(*axis) for axis in zip(x.shape[1:3], before, new_size, strict=True))
    return apply_along_height_and_width(x, rows, columns)
