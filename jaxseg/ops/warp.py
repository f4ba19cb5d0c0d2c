"""Warps: source coordinates of the pixels of a transformed image, and sampling at them; half-pixel centers.

Pixel i covers [i, i + 1) of a continuous axis and its center is at i + 0.5; coordinates below are indices: the center
of pixel i has coordinate i. The gathers here are forward only: nothing differentiates through them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Num


def crop_coordinates(
    size: tuple[int, int],
    crop: tuple[int, int],
    *,
    scale: Float[ArrayLike, "2"],
    offset: Float[ArrayLike, "2"],
    flip: Bool[ArrayLike, "2"] | None = None,
    angle: Float[ArrayLike, ""] | None = None,
    displacement: Float[ArrayLike, "h w 2"] | None = None,
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Returns the source coordinates (y, x), in an image of `size`, of each pixel of a crop of the transformed image.

    The image is flipped, enlarged by `scale`, cut by a window of size `crop` whose corner is at `offset` of the
    enlarged image, rotated about the center of the window and displaced; all in one map from output to source.

    Args:
      size: (height, width) of the image, pixels.
      crop: (height, width) of the output, pixels.
      scale: (vertical, horizontal) enlargement; 2 shows objects twice as large.
      offset: (top, left) of the window, pixels of the enlarged image; may be negative.
      flip: (up-down, left-right); None flips nothing.
      angle: rotation of the content, radians, counter-clockwise as seen on a screen; None does not rotate.
      displacement: (y, x) added to each output pixel's coordinates, in output pixels; None adds nothing.

    >>> y, x = crop_coordinates((4, 4), (2, 2), scale=jnp.ones(2), offset=jnp.array([1.0, 2.0]))
    >>> x[0].tolist(), y[:, 0].tolist()
    ([2.0, 3.0], [1.0, 2.0])
    """
    y, x = jnp.meshgrid(*(jnp.arange(n, dtype=jnp.float32) + 0.5 for n in crop), indexing="ij")
    if displacement is not None:
        y, x = y + displacement[..., 0], x + displacement[..., 1]
    if angle is not None:
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        y, x = y - crop[0] / 2, x - crop[1] / 2
        y, x = cos * y + sin * x + crop[0] / 2, cos * x - sin * y + crop[1] / 2
    y, x = (y + offset[0]) / scale[0] - 0.5, (x + offset[1]) / scale[1] - 0.5
    if flip is not None:
        y, x = jnp.where(flip[0], size[0] - 1 - y, y), jnp.where(flip[1], size[1] - 1 - x, x)
    return y, x


def inside(y: Float[ArrayLike, "h w"], x: Float[ArrayLike, "h w"], size: tuple[int, int]) -> Bool[Array, "h w"]:
    """Returns which coordinates lie inside an image of `size`, i.e. within half a pixel of a pixel's center.

    >>> inside(jnp.array([[-0.6, 0.0, 1.4]]), jnp.zeros((1, 3)), (2, 1)).tolist()
    [[False, True, True]]
    """
    return (y >= -0.5) & (y < size[0] - 0.5) & (x >= -0.5) & (x < size[1] - 0.5)


def sample_bilinear(
    image: Num[ArrayLike, "H W c"], y: Float[ArrayLike, "h w"], x: Float[ArrayLike, "h w"]
) -> Float[Array, "h w c"]:
    """Interpolates `image` at (y, x) in float32; coordinates outside are clamped to the border.

    >>> ramp = jnp.arange(4.0)[None, :, None]
    >>> sample_bilinear(ramp, jnp.zeros((1, 3)), jnp.array([[0.5, 2.0, 9.0]]))[0, :, 0].tolist()
    [0.5, 2.0, 3.0]
    """
    (top, bottom, weight_y), (left, right, weight_x) = _taps(y, image.shape[0]), _taps(x, image.shape[1])
    image, weight_y, weight_x = jnp.asarray(image), weight_y[..., None], weight_x[..., None]

    def pixel(i, j):
        return image[i, j].astype(jnp.float32)

    above = pixel(top, left) * (1 - weight_x) + pixel(top, right) * weight_x
    below = pixel(bottom, left) * (1 - weight_x) + pixel(bottom, right) * weight_x
    return above * (1 - weight_y) + below * weight_y


def sample_nearest(
    image: Num[ArrayLike, "H W *c"], y: Float[ArrayLike, "h w"], x: Float[ArrayLike, "h w"]
) -> Num[Array, "h w *c"]:
    """Takes the pixel of `image` whose center is nearest to (y, x); coordinates outside are clamped to the border.

    Of two that are equally near, the lower or the right one, as torch's "nearest-exact" does. So at a zoom of exactly
    1/2 a label is that of one of the four pixels whose mean is the image, half a source pixel off: a label has no mean,
    and whichever of the four is taken is as far off. Flips, which turn it about, even it out.

    >>> sample_nearest(jnp.arange(4)[None], jnp.zeros((1, 3)), jnp.array([[0.4, 0.5, 9.0]])).tolist()
    [[0, 1, 3]]
    """
    i, j = (
        jnp.clip(jnp.floor(at + 0.5).astype(jnp.int32), 0, length - 1)
        for at, length in zip((y, x), image.shape[:2], strict=True)
    )
    return jnp.asarray(image)[i, j]


def _taps(at, length):
    """Returns the two indices around each coordinate and the weight of the second."""
    low = jnp.floor(at)
    first = low.astype(jnp.int32)
    return jnp.clip(first, 0, length - 1), jnp.clip(first + 1, 0, length - 1), at - low


def elastic_displacement(vectors: Float[ArrayLike, "gy gx 2"], crop: tuple[int, int]) -> Float[Array, "h w 2"]:
    """Interpolates displacement vectors on a coarse grid to every pixel of a crop, by bicubic interpolation.

    Ronneberger et al., 2015, arXiv:1505.04597, section 3.1, use 3x3 vectors with a standard deviation of 10 pixels.

    Args:
      vectors: (y, x) displacements, pixels of the crop; the outer vectors sit at the corners of the crop.
      crop: (height, width), pixels.

    >>> elastic_displacement(jnp.ones((3, 3, 2)), (5, 4)).shape
    (5, 4, 2)
    """
    rows, columns = _cubic_matrix(crop[0], vectors.shape[0]), _cubic_matrix(crop[1], vectors.shape[1])
    return jnp.einsum("yi,xj,ijd->yxd", rows, columns, vectors, precision=jax.lax.Precision.HIGHEST)


@functools.lru_cache(maxsize=32)
def _cubic_matrix(length: int, knots: int) -> np.ndarray:
    """Returns the matrix [length, knots] of cubic convolution (Keys, 1981, a = -1/2), the end knots repeated beyond."""
    at = np.linspace(0, knots - 1, length)
    matrix = np.zeros((length, knots), np.float32)
    base = np.floor(at).astype(int)
    for tap in range(-1, 3):
        d = np.abs(at - (base + tap))
        near = 1.5 * d**3 - 2.5 * d**2 + 1
        far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        weight = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
        np.add.at(matrix, (np.arange(length), np.clip(base + tap, 0, knots - 1)), weight)
    return matrix
