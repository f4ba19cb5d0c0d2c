"""Resizing by interpolation matrices: matrix products forwards and backwards, no gather and no scatter.

One convention, PyTorch's `interpolate` without antialiasing: pixels are squares, and the corners of the image
stay in place (half-pixel centers). For networks that were trained with the centers of the corner pixels in place, pass
`align_corners=True`.
"""

from functools import lru_cache, partial

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxseg.checks import lookup


def bilinear_taps(size: int, new_size: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns, per new pixel, the indices of the old pixels before and after it, and the weight of the latter."""
    new = np.arange(new_size)
    if align_corners:
        position = new * ((size - 1) / max(new_size - 1, 1))
    else:
        position = np.maximum((new + 0.5) * (size / new_size) - 0.5, 0.0)
    before = np.minimum(position.astype(np.int64), size - 1)
    after = np.minimum(before + 1, size - 1)
    return before, after, np.clip(position - before, 0.0, 1.0)


@lru_cache(maxsize=256)
def bilinear_matrix(size: int, new_size: int, align_corners: bool = False) -> np.ndarray:
    """The [new_size, size] matrix of linear interpolation.

    >>> bilinear_matrix(2, 3, align_corners=True)
    array([[1. , 0. ],
           [0.5, 0.5],
           [0. , 1. ]], dtype=float32)
    """
    before, after, weight = bilinear_taps(size, new_size, align_corners)
    matrix = np.zeros((new_size, size))
    rows = np.arange(new_size)
    np.add.at(matrix, (rows, before), 1 - weight)
    np.add.at(matrix, (rows, after), weight)
    return matrix.astype(np.float32)


@lru_cache(maxsize=256)
def nearest_matrix(size: int, new_size: int) -> np.ndarray:
    """The [new_size, size] matrix that picks the old pixel at floor(new * size / new_size), PyTorch's "nearest".

    >>> nearest_matrix(2, 3)
    array([[1., 0.],
           [1., 0.],
           [0., 1.]], dtype=float32)
    """
    picked = np.floor(np.arange(new_size, dtype=np.float32) * np.float32(size / new_size)).astype(np.int64)
    return np.eye(size, dtype=np.float32)[np.minimum(picked, size - 1)]


def resize(
    x: Float[ArrayLike, "b h w c"],
    size: tuple[int, int],
    method: str = "bilinear",
    *,
    align_corners: bool = False,
) -> Float[Array, "b h2 w2 c"]:
    """Resizes to `size`, with the same results as PyTorch's `interpolate` (no antialiasing when it shrinks).

    With bfloat16 inputs, the weights and the result of each axis are rounded to bfloat16; sums are float32.

    Args:
      x: feature maps, any float dtype, which the result keeps.
      size: (height, width) of the result, in pixels.
      method: "bilinear" or "nearest".
      align_corners: whether the centers of the corner pixels stay in place, rather than the image's corners;
        bilinear only.

    >>> resize(jnp.array([[0.0, 1.0]]).reshape(1, 1, 2, 1), (1, 4)).ravel().tolist()
    [0.0, 0.25, 0.75, 1.0]
    >>> resize(jnp.array([[0.0, 1.0]]).reshape(1, 1, 2, 1), (1, 4), "nearest").ravel().tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    (h, w), (new_h, new_w) = x.shape[1:3], size
    if (h, w) == (new_h, new_w):
        return x
    if method == "nearest" and new_h % h == 0 and new_w % w == 0:
        return repeat(x, new_h // h, new_w // w)
    matrix = lookup({"bilinear": bilinear_matrix, "nearest": nearest_matrix}, method, "resizing method")
    if method == "bilinear":
        matrix = partial(matrix, align_corners=align_corners)
    return apply_along_height_and_width(x, matrix(h, new_h), matrix(w, new_w))


def resize_like(
    x: Float[ArrayLike, "b h w c"],
    like: Float[ArrayLike, "b h2 w2 d"],
    method: str = "bilinear",
    *,
    align_corners: bool = False,
) -> Float[Array, "b h2 w2 c"]:
    """Resizes `x` to the height and width of `like`."""
    return resize(x, like.shape[1:3], method, align_corners=align_corners)


def resize_within(
    x: Float[ArrayLike, "b h w c"],
    sizes: Int[ArrayLike, "b 2"],
    new_sizes: Int[ArrayLike, "b 2"],
    canvas: tuple[int, int],
) -> Float[Array, "b h2 w2 c"]:
    """Resizes the top left part of every map to a size of its own, bilinearly: the sizes are data, not shapes.

    Args:
      x: feature maps; of each only the part that `sizes` tells is looked at.
      sizes: (height, width) of that part, pixels.
      new_sizes: (height, width) that it becomes; what lies beyond in the result repeats its last row and column.
      canvas: (height, width) of the result, at least every new size.

    >>> x = jnp.array([[0.0, 1.0, 9.0]]).reshape(1, 1, 3, 1)
    >>> resize_within(x, np.array([[1, 2]]), np.array([[1, 4]]), (1, 5)).ravel().tolist()
    [0.0, 0.25, 0.75, 1.0, 1.0]
    """
    matrices = []
    for axis in (0, 1):
        old, new = (jnp.asarray(s)[:, axis, None].astype(jnp.float32) for s in (sizes, new_sizes))
        at = (jnp.arange(canvas[axis], dtype=jnp.float32) + 0.5) * (old / jnp.maximum(new, 1)) - 0.5
        at = jnp.clip(at, 0, jnp.maximum(old - 1, 0))
        distance = jnp.abs(at[..., None] - jnp.arange(x.shape[1 + axis], dtype=jnp.float32))
        matrices.append(jnp.maximum(1 - distance, 0).astype(x.dtype))
    precision = lax.Precision.HIGHEST
    x = jnp.einsum("bWw,bhwc->bhWc", matrices[1], x, precision=precision)
    return jnp.einsum("bHh,bhWc->bHWc", matrices[0], x, precision=precision)


def repeat(x: Float[ArrayLike, "b h w c"], times_h: int, times_w: int) -> Float[Array, "b h2 w2 c"]:
    """Repeats every pixel: nearest-neighbor enlargement by whole factors, whose gradient is a plain sum.

    >>> repeat(jnp.array([[1.0, 2.0]]).reshape(1, 1, 2, 1), 1, 2).ravel().tolist()
    [1.0, 1.0, 2.0, 2.0]
    """
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, times_h, w, times_w, c))
    return x.reshape(b, h * times_h, w * times_w, c)


def apply_along_height_and_width(
    x: Float[ArrayLike, "b h w c"], rows: Float[np.ndarray, "h2 h"], columns: Float[np.ndarray, "w2 w"]
) -> Float[Array, "b h2 w2 c"]:
    """Multiplies the height axis of `x` by the matrix `rows` and the width axis by `columns`, in the cheaper order.

    The products have the precision of `x`'s dtype: no TF32, no bfloat16 passes for float32.

    >>> apply_along_height_and_width(jnp.ones((1, 2, 3, 1)), np.ones((1, 2)), np.ones((1, 3))).item()
    6.0
    """
    b, h, w, c = x.shape
    (new_h, _), (new_w, _) = rows.shape, columns.shape
    if new_h < h:
        x = _multiply(rows, x.reshape(b, h, w * c)).reshape(b, new_h, w, c)
        return _multiply(columns, x.reshape(b * new_h, w, c)).reshape(b, new_h, new_w, c)
    x = _multiply(columns, x.reshape(b * h, w, c)).reshape(b, h, new_w * c)
    return _multiply(rows, x).reshape(b, new_h, new_w, c)


def _multiply(matrix: np.ndarray, x: Float[ArrayLike, "n s c"]) -> Float[Array, "n s2 c"]:
    """Multiplies every [s, c] of `x` by `matrix` from the left."""
    if np.array_equal(matrix, np.eye(x.shape[1])):
        return x
    matrix = jnp.broadcast_to(jnp.asarray(matrix, x.dtype), (x.shape[0], *matrix.shape))
    if x.dtype != jnp.float32:  # whose products are exact, and summed in float32
        return _product(matrix, x, precision=None)
    # At the highest precision an H100 would leave its tensor cores alone. Three of their products, of upper and lower
    # halves of the numbers, are as exact and took half the time (docs/gpu).
    exact = partial(_product, precision=lax.Precision.HIGHEST)
    return lax.platform_dependent(
        matrix, x, cuda=partial(_product, precision=lax.DotAlgorithmPreset.TF32_TF32_F32_X3), default=exact
    )


def _product(
    matrix: Float[Array, "n s2 s"],
    x: Float[Array | np.ndarray, "n s c"],
    *,
    precision: lax.Precision | lax.DotAlgorithmPreset | None,
) -> Float[Array, "n s2 c"]:
    return lax.dot_general(matrix, x, (((2,), (1,)), ((0,), (0,))), precision=precision)
