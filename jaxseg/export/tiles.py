"""Tiles inside an exported function: cut where the size of the images says, and put together as `Predictor` does."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num

from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference.tiling import Tiling
from jaxseg.ops import tiling as ops

Score = Callable[[Num[Array, "b h w c"], Int[Array, "b 2"]], Float[Array, "b h w k"]]
Fill = Callable[[Num[ArrayLike, "b _h _w c"], tuple[int, int]], Num[Array, "b _h2 _w2 c"]]


def tile_count(size: tuple[int, int], tiling: Tiling, preprocessing: Preprocessing) -> int:
    """Returns the number of tiles of an image.

    Args:
      size: (height, width) of the image as the network sees it, pixels.
      tiling: how it is cut.
      preprocessing: of the model.
    """
    rows, columns = _starts(size, tiling, preprocessing)
    return len(rows) * len(columns)


def _starts(
    size: tuple[int, int], tiling: Tiling, preprocessing: Preprocessing
) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " columns"]]:
    """Where the tiles of each axis begin, in the image padded at its end."""
    sides = zip(size, tiling.tile, tiling.step, preprocessing.phase, strict=True)
    rows, columns = (
        ops.tile_starts(max(t, n + (phase - n) % preprocessing.bucket), t, step) for n, t, step, phase in sides
    )
    return rows, columns


def predict_tiles(
    score: Score, fill: Fill, images: Num[Array, "b h w c"], tiling: Tiling, preprocessing: Preprocessing
) -> Float[Array, "b h w k"]:
    """Returns the logits of images of one size, tile by tile: of each pixel the weighted mean over its tiles.

    One tile of each image is computed at a time.

    Args:
      score: of tiles, and their sizes without padding.
      fill: pads tiles to a size.
      images: as stored, as large as the network sees them.
      tiling: how they are cut.
      preprocessing: of the model.
    """
    (height, width), (th, tw) = images.shape[1:3], tiling.tile
    tops, lefts = _starts((height, width), tiling, preprocessing)
    rows, columns = (
        ops.nearest_center(starts, n, tiling.blend) for starts, n in zip((tops, lefts), tiling.tile, strict=True)
    )
    base = ops.blend_weights(tiling.tile, tiling.blend)
    tiles, sizes = [], []
    for top in tops:
        for left in lefts:
            # An index would gather, where the number of images is a symbol.
            part = lax.slice_in_dim(images, int(top), int(min(top + th, height)), axis=1)
            part = lax.slice_in_dim(part, int(left), int(min(left + tw, width)), axis=2)
            sizes.append(part.shape[1:3])
            tiles.append(fill(part, tiling.tile))

    def one(tile: tuple[Num[Array, "b h w c"], Int[Array, " 2"]]) -> Float[Array, "b h w k"]:
        return score(tile[0], jnp.broadcast_to(tile[1], (tile[0].shape[0], 2)))

    found = lax.map(one, (jnp.stack(tiles), jnp.asarray(sizes, jnp.int32)))
    padded = tops[-1] + th, lefts[-1] + tw
    total, below = np.zeros(padded, np.float32), None
    for i, top in enumerate(tops):
        beside = None
        for j, left in enumerate(lefts):
            weights = base * rows[i][:, None] * columns[j]
            total[top : top + th, left : left + tw] += weights
            own = weights[None, :, :, None]
            # Where a weight is 0 the value does not count, be it nan.
            tile = jnp.where(own > 0, found[i * len(lefts) + j] * own, 0)
            beside = _add(beside, tile, 2, int(left), int(padded[1]))
        below = _add(below, beside, 1, int(top), int(padded[0]))
    mean = below / np.maximum(total, 1e-30)[None, :, :, None]
    return lax.slice_in_dim(lax.slice_in_dim(mean, 0, height, axis=1), 0, width, axis=2)


def _add(
    sums: Float[Array, "b _h2 _w2 k"] | None, x: Float[Array, "b _h _w k"], axis: int, start: int, length: int
) -> Float[Array, "b _h2 _w2 k"]:
    """Adds maps to sums that are longer along an axis; None are all 0."""
    sides = [(0, 0, 0)] * 4
    sides[axis] = (start, length - start - x.shape[axis], 0)
    longer = lax.pad(x, np.float32(0), sides)
    return longer if sums is None else sums + longer
