"""Tiling: windows of one size, the tiles, that overlap, and one map put together from what was computed of each.

The places are those of MONAI's `sliding_window_inference` and of mmsegmentation's slide mode: every `step` pixels, and
the last moved inwards so that it ends where the image does.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Num

from jaxseg.checks import UserError, lookup

SIGMA = 0.125  # of the Gaussian, times the length of a tile
LEAST = 1e-3  # weight that a Gaussian has at least, or those far from all centers would be divided by nearly 0


def tile_step(tile: int, overlap: float, multiple: int = 1) -> int:
    """Returns the distance of neighboring tiles.

    Args:
      tile: length of a tile, pixels.
      overlap: share of a tile that its neighbor has too, 0 to less than 1.
      multiple: that the distance is rounded down to, pixels.

    >>> tile_step(512, 0.25), tile_step(513, 0.25, 32)
    (384, 384)
    """
    if not 0 <= overlap < 1:
        raise UserError(f"The overlap of tiles is a share of them, from 0 to less than 1, got {overlap}.")
    return max(int(tile * (1 - overlap)) // multiple, 1) * multiple


def tile_starts(length: int, tile: int, step: int) -> Int[np.ndarray, " n"]:
    """Returns where the tiles of one axis begin: every `step` pixels, the last so that it ends with the image.

    Args:
      length: of the axis, pixels.
      tile: length of a tile, pixels; of a shorter axis there is one tile, which begins at 0.
      step: distance of neighboring tiles, pixels.

    >>> tile_starts(1000, 512, 384).tolist(), tile_starts(300, 512, 384).tolist()
    ([0, 384, 488], [0])
    """
    count = max(math.ceil((length - tile) / step), 0) + 1
    return np.minimum(np.arange(count) * step, max(length - tile, 0))


def constant_weights(tile: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """Returns weights that are all 1: the mean of the tiles that have a pixel counts."""
    return np.ones(tile, np.float32)


def gaussian_weights(tile: tuple[int, int]) -> Float[np.ndarray, "h w"]:
    """Returns weights that fall from 1 at the tile's center, with a deviation of 1/8 of its sides (Isensee et al.,
    2021, nnU-Net, doi:10.1038/s41592-020-01008-z), and are at least 0.001, as MONAI's.

    >>> gaussian_weights((1, 3)).round(3)
    array([[0.029, 1.   , 0.029]], dtype=float32)
    """
    rows, columns = (np.exp(((np.arange(n) - (n - 1) / 2) / (SIGMA * n)) ** 2 / -2) for n in tile)
    weights = rows[:, None] * columns
    return np.maximum(weights, max(float(weights.min()), LEAST)).astype(np.float32)


BLENDS: dict[str, Callable[[tuple[int, int]], Float[np.ndarray, "h w"]]] = {
    "constant": constant_weights,
    "gaussian": gaussian_weights,
    "center": constant_weights,  # of the part that `nearest_center` gives a tile
}


def blend_weights(tile: tuple[int, int], blend: str) -> Float[np.ndarray, "h w"]:
    """Returns the weights of the pixels of every tile.

    Args:
      tile: (height, width), pixels.
      blend: "constant"; "gaussian"; or "center", of which every pixel is taken from one tile, see `nearest_center`.
    """
    return lookup(BLENDS, blend, "way to blend tiles")(tile)


def nearest_center(starts: Int[np.ndarray, " n"], tile: int, blend: str = "center") -> Float[np.ndarray, "n t"]:
    """Returns 1 for the pixels of each tile of one axis that are taken from it, else 0; of other blends all are.

    The border of two neighbors is in the middle of what both have: so every pixel is at least half of the overlap away
    from the edges of its tile, but for the edges of the image.

    >>> nearest_center(np.array([0, 2]), 4).tolist()
    [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]]
    """
    mask = np.ones((len(starts), tile), np.float32)
    if blend == "center":
        middle = (starts[:-1] + tile + starts[1:]) // 2  # of each pair of neighbors
        at = starts[:, None] + np.arange(tile)
        mask[:-1] *= at[:-1] < middle[:, None]
        mask[1:] *= at[1:] >= middle[:, None]
    return mask


def cut_tiles(
    image: Num[Array, "h w c"], tops: Int[Array, " n"], lefts: Int[Array, " n"], tile: tuple[int, int]
) -> Num[Array, "n th tw c"]:
    """Returns the tiles of an image that begin at (top, left).

    >>> x = jnp.arange(4).reshape(1, 4, 1)
    >>> cut_tiles(x, jnp.array([0, 0]), jnp.array([0, 2]), (1, 2))[..., 0].tolist()
    [[[0, 1]], [[2, 3]]]
    """

    def one(top: Int[Array, ""], left: Int[Array, ""]) -> Num[Array, "th tw c"]:
        return lax.dynamic_slice(image, (top, left, 0), (*tile, image.shape[-1]))

    return jax.vmap(one)(tops, lefts)


def add_tiles(
    canvas: Float[Array, "h w c"], tiles: Float[Array, "n th tw c"], tops: Int[Array, " n"], lefts: Int[Array, " n"]
) -> Float[Array, "h w c"]:
    """Returns `canvas` with every tile added to it at (top, left), one after the other.

    >>> canvas, ones = jnp.zeros((1, 3, 1)), jnp.ones((2, 1, 2, 1))
    >>> add_tiles(canvas, ones, jnp.array([0, 0]), jnp.array([0, 1])).ravel().tolist()
    [1.0, 2.0, 1.0]
    """

    def add(i: Int[Array, ""], canvas: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        place = (tops[i], lefts[i], 0)
        there = lax.dynamic_slice(canvas, place, tiles.shape[1:])
        return lax.dynamic_update_slice(canvas, there + tiles[i], place)

    return lax.fori_loop(0, len(tiles), add, canvas)


def map_tiles(
    function: Callable[[Num[Array, "n th tw c"]], Float[Array, "n th tw k"]],
    image: Num[Array, "h w c"],
    *,
    tile: tuple[int, int],
    step: tuple[int, int],
    blend: str = "gaussian",
    batch_size: int = 4,
) -> Float[Array, "h w k"]:
    """Returns what `function` makes of an image, tile by tile: of each pixel the weighted mean over its tiles.

    Can be jitted and differentiated. The whole image and the whole result are in memory; `jaxseg.Predictor` and
    `jaxseg predict` go through an image strip by strip.

    Args:
      function: of `batch_size` tiles at a time; it keeps their height and width.
      image: at least one pixel.
      tile: (height, width), pixels; a side longer than the image's is shortened to it.
      step: (height, width), distance of neighboring tiles, pixels.
      blend: a key of `BLENDS`.
      batch_size: tiles at a time; the last batch is filled up with the first tile, which then does not count.

    >>> image = jnp.arange(12.0).reshape(3, 4, 1)
    >>> doubled = map_tiles(lambda tiles: 2 * tiles, image, tile=(2, 2), step=(1, 1))
    >>> bool(jnp.allclose(doubled, 2 * image))
    True
    """
    height, width, _ = image.shape
    tile = (min(tile[0], height), min(tile[1], width))
    starts = [tile_starts(n, t, s) for n, t, s in zip((height, width), tile, step, strict=True)]
    rows, columns = (nearest_center(s, t, blend) for s, t in zip(starts, tile, strict=True))
    base = blend_weights(tile, blend)
    count = len(starts[0]) * len(starts[1])
    order = np.concatenate([np.arange(count), np.zeros(-count % batch_size, int)])
    i, j = (x.reshape(-1, batch_size) for x in np.divmod(order, len(starts[1])))
    counts = (np.arange(len(order)) < count).astype(np.float32).reshape(-1, batch_size)
    channels = jax.eval_shape(function, jax.ShapeDtypeStruct((batch_size, *tile, image.shape[-1]), image.dtype)).shape
    sums = jnp.zeros((height, width, channels[-1] + 1), jnp.float32)

    def add(sums: Float[Array, "h w k1"], batch: tuple[Array, ...]) -> tuple[Float[Array, "h w k1"], None]:
        tops, lefts, by_row, by_column, own = batch
        found = function(cut_tiles(image, tops, lefts, tile))
        weights = own[:, None, None] * base * by_row[:, :, None] * by_column[:, None]
        return add_tiles(sums, weighted(found, weights), tops, lefts), None

    batches = (starts[0][i], starts[1][j], rows[i], columns[j], counts)
    sums, _ = lax.scan(add, sums, jax.tree.map(jnp.asarray, batches))
    return weighted_mean(sums)


def weighted(x: Float[Array, "n h w k"], weights: Float[Array, "n h w"]) -> Float[Array, "n h w k1"]:
    """Returns maps times their weights, and the weights as one more channel, float32: what `add_tiles` sums."""
    weights = weights[..., None]
    # Where a weight is 0 the value does not count, be it nan.
    return jnp.concatenate([jnp.where(weights > 0, x.astype(jnp.float32) * weights, 0), weights], axis=-1)


def weighted_mean(sums: Float[Array, "h w k1"]) -> Float[Array, "h w k"]:
    """Returns the weighted means of sums of `weighted`; 0 where nothing was added."""
    return sums[..., :-1] / jnp.maximum(sums[..., -1:], 1e-30)
