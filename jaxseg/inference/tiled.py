"""Predictions of images of any size, in tiles, at the images' own size: whatever size the network sees them at.

A model whose rule of resizing (`data.resize`) changes sizes sees rows that are made of the rows read so far, and its
logits are enlarged as they come: what is in memory is some rows, of a file as of an array.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Num

from jaxseg.data.bands import Bands, resize_bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference.batches import Size, resize_image
from jaxseg.inference.tiling import Finish, Read, Score, Strip, Tiles, Tiling, check_rows
from jaxseg.ops.resize import bilinear_taps

_ROWS = 256  # of a result that are enlarged at a time, at most
_NUMBERS = 2**26  # logits that are enlarged at a time, at most
_BLOCK = 64  # rows that are resized at a time


class TiledPredictions:
    """Predicts images of any size in tiles: what `finish` makes of the blended logits, at the native size.

    Args:
      score: as for `Tiles`, as are `finish`, `preprocessing` and `mesh`.
      finish: see there.
      preprocessing: see there.
      mesh: see there.
    """

    def __init__(self, score: Score, finish: Finish, preprocessing: Preprocessing, *, mesh: Mesh | None = None):
        self._score, self._finish, self._preprocessing, self._mesh = score, finish, preprocessing, mesh
        self._tiles: dict[Tiling, Tiles] = {}
        self._enlarge = jax.jit(lambda *logits_and_taps: finish(_interpolate(*logits_and_taps)))

    def __call__(self, variables: Any, image: Num[np.ndarray, "h w c"], tiling: Tiling) -> Any:
        """Returns `finish`'s arrays, [h, w, …], of an image as stored."""
        small, native = resize_image(image, self._preprocessing), image.shape[:2]

        def read(top: int, left: int, height: int, width: int) -> Num[np.ndarray, "h w c"]:
            return small[top : top + height, left : left + width]

        strips = self.of(tiling).strips(variables, read, small.shape[:2])
        if self._preprocessing.resize:
            strips = self._at_native_size(strips, small.shape[:2], native, (0, native[0]))
        return jax.tree.map(lambda *rows: np.concatenate(rows), *(strip.result for strip in strips))

    def strips(
        self, variables: Any, read: Read, size: Size, tiling: Tiling, rows: tuple[int, int] | None = None
    ) -> Iterator[Strip]:
        """Yields the result from top to bottom, see `Tiles.strips`; `read`, `size` and `rows` are native."""
        seen = self._preprocessing
        if not seen.resize:
            yield from self.of(tiling).strips(variables, read, size, rows)
            return
        first, end = check_rows(rows, size)
        if first == end:
            return
        small = seen.resize(*size)
        before, after, _ = bilinear_taps(small[0], size[0], False)
        wanted = int(before[first]), int(after[end - 1]) + 1
        logits = self.of(tiling).strips(variables, _Resized(read, size, small, seen.bands), small, wanted)
        yield from self._at_native_size(logits, small, size, (first, end))

    def of(self, tiling: Tiling) -> Tiles:
        """Returns what cuts in this way; of models that see images at another size it returns the logits there."""
        if tiling not in self._tiles:
            finish = (lambda logits: logits) if self._preprocessing.resize else self._finish
            self._tiles[tiling] = Tiles(self._score, finish, tiling, self._preprocessing, mesh=self._mesh)
        return self._tiles[tiling]

    def _at_native_size(
        self, logits: Iterator[Strip], small: Size, native: Size, rows: tuple[int, int]
    ) -> Iterator[Strip]:
        """Enlarges logits as `resize_within` does, as soon as the two rows of a pixel are there."""
        (before, after, weight), columns = (
            bilinear_taps(old, new, False) for old, new in zip(small, native, strict=True)
        )
        columns = (*columns[:2], columns[2].astype(np.float32))
        top, end = rows
        kept = None  # (the first row of the logits that are kept, the logits)
        for strip in logits:
            kept = (strip.top, strip.result) if kept is None else (kept[0], np.concatenate([kept[1], strip.result]))
            at_a_time = max(1, min(_ROWS, _NUMBERS // (native[1] * strip.result.shape[-1])))
            there = min(int(np.searchsorted(after, kept[0] + len(kept[1]))), end)
            while top < there and (there == end or there - top >= at_a_time):
                own = slice(top, min(top + at_a_time, there))
                above, below = (kept[1][taps[own] - kept[0]] for taps in (before, after))
                found = self._enlarge(above, below, weight[own].astype(np.float32), *columns)
                yield Strip(top, jax.tree.map(np.asarray, found))
                top = own.stop
            if top < end:
                done = min(max(int(before[top]) - kept[0], 0), len(kept[1]))
                kept = (kept[0] + done, kept[1][done:])


class _Resized:
    """Reads rows of an image at the size at which the network sees it, from top to bottom.

    Native rows are read once each. Rows are resized in blocks whose places do not depend on what is asked for, so that
    values that end in a half are rounded alike however the image is divided.

    Args:
      read: of native rows.
      native: (height, width).
      size: (height, width) that the network sees.
      bands: of the image.
    """

    def __init__(self, read: Read, native: Size, size: Size, bands: Bands):
        self._read, self._native, self._size, self._bands = read, native, size, bands
        self._kept: tuple[int, Num[np.ndarray, "h w c"]] | None = None  # (first row, native rows)
        self._last: tuple[int, Num[np.ndarray, "h w c"]] | None = None  # (first row, block)

    def __call__(self, top: int, left: int, height: int, width: int) -> Num[np.ndarray, "h w c"]:
        """Returns whole rows; `left` is 0 and `width` the image's."""
        assert left == 0 and width == self._size[1]
        start = top - top % _BLOCK
        blocks = [self._block(at) for at in range(start, top + height, _BLOCK)]
        return np.concatenate(blocks)[top - start : top - start + height]

    def _block(self, top: int) -> Num[np.ndarray, "h w c"]:
        """The rows from `top` on, `_BLOCK` of them or what is left of the image."""
        if self._last is None or self._last[0] != top:
            step, height = self._native[0] / self._size[0], min(_BLOCK, self._size[0] - top)
            reach = max(step, 1.0)  # of the filter, native rows to each side of a row's center
            first = max(math.floor((top + 0.5) * step - reach) - 1, 0)
            end = min(math.ceil((top + height - 0.5) * step + reach) + 1, self._native[0])
            rows = self._native_rows(first, end)
            box = (top * step - first, 0.0, min((top + height) * step - first, len(rows)), float(self._native[1]))
            self._last = top, resize_bands(rows, (height, self._size[1]), self._bands, box)
        return self._last[1]

    def _native_rows(self, first: int, end: int) -> Num[np.ndarray, "h w c"]:
        """The rows, of which those are kept that were read before."""
        if self._kept is None or not self._kept[0] <= first < self._kept[0] + len(self._kept[1]):
            self._kept = first, self._read(first, 0, end - first, self._native[1])
            return self._kept[1]
        rows = self._kept[1][first - self._kept[0] :]
        if first + len(rows) < end:
            rows = np.concatenate([rows, self._read(first + len(rows), 0, end - first - len(rows), self._native[1])])
        self._kept = first, rows
        return rows


def _interpolate(
    above: Float[Array, "r w k"],
    below: Float[Array, "r w k"],
    by_row: Float[Array, " r"],
    left: Int[Array, " n"],
    right: Int[Array, " n"],
    by_column: Float[Array, " n"],
) -> Float[Array, "r n k"]:
    x = above + (below - above) * by_row[:, None, None]
    return x[:, left] + (x[:, right] - x[:, left]) * by_column[:, None]
