"""Helpers of the boundary metrics: the valid rectangle, lengths in pixels, a map over classes, and means."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Integer

from jaxseg.checks import UserError
from jaxseg.metrics.arrays import finite_mean


class Image(NamedTuple):
    """The image inside a padded array."""

    counted: Bool[Array, "b h w"]
    to_end: Int[Array, "b h w"]  # steps, of rows or columns, that lead out of it
    diagonal: Float[Array, " b"]  # in pixels


def find_image(
    labels: Integer[ArrayLike, "b h w"],
    where: Bool[ArrayLike, "b h w"] | None,
    sizes: Integer[ArrayLike, "b 2"] | None = None,
) -> Image:
    """Returns the images of a batch whose arrays may be padded with invalid pixels.

    Args:
      labels: of whose shape the arrays are.
      where: valid pixels (None means all).
      sizes: (height, width) of each image, which lies at the top left. None is the smallest rectangle that holds all
        valid pixels: that is smaller than an image whose outermost rows or columns are invalid throughout.

    >>> found = find_image(jnp.zeros((1, 3, 5), int), jnp.zeros((1, 3, 5), bool).at[0, :, :4].set(True))
    >>> float(found.diagonal[0]), found.to_end[0, 1].tolist()
    (5.0, [1, 2, 2, 1, 0])
    >>> float(find_image(jnp.zeros((1, 4, 4), int), jnp.zeros((1, 4, 4), bool), jnp.array([[4, 3]])).diagonal[0])
    5.0
    """
    counted = jnp.ones(labels.shape, bool) if where is None else where
    steps, squares = [], 0
    for axis in (1, 2):
        index = lax.broadcasted_iota(jnp.int32, counted.shape, axis)
        if sizes is None:
            first = jnp.where(counted, index, labels.shape[axis]).min((1, 2), keepdims=True)
            last = jnp.where(counted, index, -1).max((1, 2), keepdims=True)
        else:
            first, last = 0, sizes[:, axis - 1, None, None] - 1
        steps += [index - first + 1, last - index + 1]
        squares += jnp.square(jnp.asarray(last - first + 1, jnp.float32))
    return Image(counted, jnp.stack(steps).min(0), jnp.sqrt(squares)[:, 0, 0])


def count(mask: Bool[ArrayLike, "... h w"]) -> Int[Array, "..."]:
    """Returns the number of True pixels of every image.

    >>> count(jnp.array([[[True, False, True]]])).tolist()
    [2]
    """
    return mask.sum((-2, -1), dtype=jnp.int32)


def in_pixels(length: Float[ArrayLike, ""], image: Image) -> Float[Array, " b"]:
    """Returns a length that is given in pixels or, below 1, as a share of the diagonal.

    >>> in_pixels(jnp.float32(0.5), find_image(jnp.zeros((1, 3, 4), int), None)).tolist()
    [2.5]
    """
    return jnp.where(length < 1, length * image.diagonal, length)


def lengths_of_classes(values: float | Sequence[float], num_classes: int, name: str) -> Float[Array, " c"]:
    """Returns one length per class, or raises a `UserError` that names the argument.

    >>> lengths_of_classes(0.5, 2, "width").tolist()
    [0.5, 0.5]
    """
    array = np.asarray(values, np.float32)
    if array.shape not in ((), (num_classes,)) or not (np.isfinite(array) & (array >= 0)).all():
        raise UserError(f"`{name}` must be a number >= 0, or one for each of the {num_classes} classes, got {values}.")
    return jnp.broadcast_to(array, num_classes)


def map_classes(of_class: Callable[..., dict[str, Array]], lengths: Float[ArrayLike, " c"]) -> dict[str, Array]:
    """Applies `of_class` to each class with `lax.map`, in constant memory; returns [b, c] arrays."""
    rows_by_key = lax.map(lambda pair: of_class(*pair), (jnp.arange(len(lengths)), lengths))
    return {key: rows.T for key, rows in rows_by_key.items()}


def class_means(images: dict[str, Any]) -> dict[str, Any]:
    """Per key: the per-class mean over images, and as `mean_<key>` the mean over classes; of finite values only."""
    means = {}
    for key, rows in images.items():
        means[key] = finite_mean(np.asarray(rows, np.float64)).tolist()
        means[f"mean_{key}"] = float(finite_mean(np.array(means[key])))
    return means
