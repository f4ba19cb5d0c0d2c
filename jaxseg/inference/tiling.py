"""Images of any size, tile by tile: in strips from top to bottom, in memory that does not grow with their height.

The network runs in one program, whatever the sizes of the images are. Tiles are congruent to the training crop and lie
at multiples of the network's stride in the padded image, and what is beyond the image is padded as ever: a network that
looks no further than half of the overlap says of each pixel what it says of the whole image, with `blend="center"`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Num

from jaxseg.checks import UserError, lookup
from jaxseg.data.bands import empty_pixels
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.experiment.devices import batched, replicated
from jaxseg.inference.batches import Size, one_behind
from jaxseg.inference.memory import saying_what_to_lower
from jaxseg.ops import tiling as ops

TILE, OVERLAP, BLEND = 512, 0.25, "gaussian"
LARGEST = 2**15  # sides of a tile, pixels
BATCH = 4  # tiles at a time, on each device
Read = Callable[[int, int, int, int], Num[np.ndarray, "h w c"]]  # (top, left, height, width) -> that part of the image
Score = Callable[[Any, Num[Array, "b h w c"], Int[Array, "b 2"]], Float[Array, "b h w k"]]
Finish = Callable[[Float[Array, "h w k"]], Any]


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How images are cut.

    Args:
      tile: (height, width), pixels that the network sees at a time.
      step: (height, width), distance of neighboring tiles, pixels.
      blend: a key of `jaxseg.ops.tiling.BLENDS`.
    """

    tile: Size
    step: Size
    blend: str = BLEND

    def __str__(self) -> str:
        """Returns the sizes as text."""
        return f"tiles of {self.tile[0]}x{self.tile[1]} every {self.step[0]}x{self.step[1]} pixels"


def make_tiling(preprocessing: Preprocessing, tile: int = TILE, overlap: float = OVERLAP, blend: str = BLEND) -> Tiling:
    """Returns how images are cut for a model.

    Args:
      preprocessing: of the model; tiles are congruent to its phase, and their distance is a multiple of its bucket.
      tile: least height and width, pixels.
      overlap: share of a tile that its neighbor has too, 0 to less than 1; more where the bucket asks for it.
      blend: a key of `jaxseg.ops.tiling.BLENDS`.

    >>> p = Preprocessing((0,) * 3, (1,) * 3, phase=(1, 0))
    >>> print(make_tiling(p))
    tiles of 513x512 every 384x384 pixels
    """
    lookup(ops.BLENDS, blend, "way to blend tiles")
    bucket, least = preprocessing.bucket, least_tile(preprocessing, overlap)
    if not least <= tile <= LARGEST:
        raise UserError(
            f"Tiles that overlap by {overlap:g} have from {least} to {LARGEST} pixels, got {tile}: they lie {bucket}"
            " pixels apart or a multiple of it, the step of the model's sizes. Take larger tiles, or a smaller overlap."
        )
    sides = tuple(tile + (phase - tile) % bucket for phase in preprocessing.phase)
    return Tiling(sides, tuple(ops.tile_step(side, overlap, bucket) for side in sides), blend)


def least_tile(preprocessing: Preprocessing, overlap: float) -> int:
    """Returns the least side of tiles, in pixels, whose neighbors can be a bucket away and overlap so much.

    >>> least_tile(Preprocessing((0,) * 3, (1,) * 3, bucket=32), 0.5)
    64
    """
    if not 0 <= overlap < 1:
        raise UserError(f"The overlap of tiles is a share of them, from 0 to less than 1, got {overlap}.")
    least = math.ceil(preprocessing.bucket / (1 - overlap))
    return least + (int(least * (1 - overlap)) < preprocessing.bucket)  # a product may be rounded below


class Strip(NamedTuple):
    """Rows of a result, from `top` on; arrays [rows, w, …]."""

    top: int
    result: Any


def check_rows(rows: tuple[int, int] | None, size: Size) -> tuple[int, int]:
    """Returns the (first, end) of the rows that are wanted of an image of this size; None is all."""
    first, end = rows or (0, size[0])
    if not 0 <= first <= end <= size[0]:
        raise UserError(f"Rows are (first, end) within the image's {size[0]}, got ({first}, {end}).")
    return first, end


class Tiles:
    """Computes maps of images of any size, tile by tile.

    Args:
      score: (variables, stored tiles, their sizes without padding) -> maps; traced.
      finish: blended maps of some rows -> arrays of those rows; traced.
      tiling: how images are cut.
      preprocessing: of the model.
      mesh: over whose devices the tiles of a batch are split; None is the first device.
      batch_size: tiles at a time on each device.
    """

    def __init__(
        self,
        score: Score,
        finish: Finish,
        tiling: Tiling,
        preprocessing: Preprocessing,
        *,
        mesh: Mesh | None = None,
        batch_size: int = BATCH,
    ):
        self.tiling, self.preprocessing, self.mesh = tiling, preprocessing, mesh
        self.batch_size = batch_size * (mesh.size if mesh else 1)
        weights = ops.blend_weights(tiling.tile, tiling.blend)

        def weighted(variables: Any, batch: Mapping[str, Array]) -> Float[Array, "b h w k1"]:
            own = weights * batch["rows"][:, :, None] * batch["columns"][:, None]
            found = ops.weighted(score(variables, batch["image"], batch["size"]), own)
            return found if mesh is None else jax.lax.with_sharding_constraint(found, replicated(mesh))

        def add(
            strip: Float[Array, "h w k1"], tiles: Float[Array, "b th tw k1"], lefts: Int[Array, " b"]
        ) -> Float[Array, "h w k1"]:
            return ops.add_tiles(strip, tiles, jnp.zeros_like(lefts), lefts)

        def shift(strip: Float[Array, "h w k1"], rows: Int[Array, ""]) -> tuple[Any, Float[Array, "h w k1"]]:
            left = jnp.arange(len(strip)) < len(strip) - rows
            return finish(ops.weighted_mean(strip)), jnp.where(left[:, None, None], jnp.roll(strip, -rows, axis=0), 0)

        self._score = jax.jit(weighted)
        self._add = jax.jit(add, donate_argnums=0)
        self._shift = jax.jit(shift, donate_argnums=0)

    @property
    def programs(self) -> int:
        """Compiled ones of the network; there is one, however many sizes the images have."""
        return self._score._cache_size()

    def __call__(self, variables: Any, read: Read, size: Size) -> Any:
        """Returns the result of a whole image: `finish`'s arrays, [h, w, …]."""
        parts = [strip.result for strip in self.strips(variables, read, size)]
        return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)

    def strips(self, variables: Any, read: Read, size: Size, rows: tuple[int, int] | None = None) -> Iterator[Strip]:
        """Yields the result from top to bottom. The device computes one strip while the one before is used.

        Args:
          variables: of the model, on the device.
          read: what reads a part of the image, inside of it; it is called by one thread.
          size: (height, width) of the image, pixels.
          rows: (first, end) of the rows that are wanted; None is all. They are the same, to the bit, however the image
            is divided.
        """
        first, end = check_rows(rows, size)
        with ThreadPoolExecutor(1) as reader:
            for top, count, results in one_behind(self._sent(variables, read, size, first, end, reader)):
                start, stop = max(first - top, 0), min(end - top, count)
                if start < stop:
                    results = jax.tree.map(lambda x: np.asarray(x)[start:stop, : size[1]], results)  # noqa: B023
                    yield Strip(top + start, results)

    def _sent(
        self, variables: Any, read: Read, size: Size, first: int, end: int, reader: ThreadPoolExecutor
    ) -> Iterator[tuple[int, int, Any]]:
        """Yields (top, rows that are done, results of a strip); the results may not be computed yet."""
        tile, seen = self.tiling.tile, self.preprocessing
        padded = tuple(
            max(t, n + (phase - n) % seen.bucket) for n, t, phase in zip(size, tile, seen.phase, strict=True)
        )
        tops, lefts = (ops.tile_starts(*axis) for axis in zip(padded, tile, self.tiling.step, strict=True))
        by_row, by_column = (
            ops.nearest_center(starts, n, self.tiling.blend) for starts, n in zip((tops, lefts), tile, strict=True)
        )
        tops = tops.tolist()
        chosen = [i for i, top in enumerate(tops) if top + tile[0] > first and top < end]
        parts = _read_ahead(read, [(tops[i], min(tops[i] + tile[0], size[0])) for i in chosen], size[1], reader)
        strip = None
        for i, part in zip(chosen, parts, strict=True):
            for batch, at in self._batches(part, lefts, by_row[i], by_column):
                if self.mesh is not None:
                    batch = jax.device_put(batch, batched(self.mesh))
                with saying_what_to_lower(f"A batch of {len(at)} {self.tiling}", "Take smaller tiles."):
                    found = self._score(variables, batch)
                    if strip is None:
                        strip = jnp.zeros((tile[0], -(-padded[1] // tile[1]) * tile[1], found.shape[-1]), jnp.float32)
                        strip = strip if self.mesh is None else jax.device_put(strip, replicated(self.mesh))
                    strip = self._add(strip, found, at)
            count = (tops[i + 1] if i + 1 < len(tops) else size[0]) - tops[i]
            results, strip = self._shift(strip, np.int32(min(count, tile[0])))
            yield tops[i], count, results

    def _batches(
        self,
        part: Num[np.ndarray, "rows w c"],
        lefts: Int[np.ndarray, " n"],
        by_row: Float[np.ndarray, " th"],
        by_column: Float[np.ndarray, "n tw"],
    ) -> Iterator[tuple[dict[str, np.ndarray], Int[np.ndarray, " b"]]]:
        """Yields batches of tiles of some rows, and where each begins; tiles that hold nothing are left out."""
        tile, seen = self.tiling.tile, self.preprocessing
        images = [part[:, left : left + tile[1]] for left in lefts]
        full = [j for j, image in enumerate(images) if (e := empty_pixels(seen.bands, image)) is None or not e.all()]
        full = full or [0]  # the network says how many maps there are
        for start in range(0, len(full), self.batch_size):
            own = full[start : start + self.batch_size]
            missing = self.batch_size - len(own)
            columns = np.concatenate([by_column[own], np.zeros((missing, tile[1]), np.float32)])
            image = seen.pad([images[j] for j in own], tile)
            sizes = np.array([images[j].shape[:2] for j in own] + [(0, 0)] * missing, np.int32)
            image = np.concatenate([image, np.zeros((missing, *image.shape[1:]), image.dtype)])
            rows = np.broadcast_to(by_row, (self.batch_size, tile[0]))
            batch = {"image": image, "size": sizes, "rows": np.array(rows), "columns": columns}
            yield batch, np.concatenate([lefts[own], np.zeros(missing, int)]).astype(np.int32)


def _read_ahead(
    read: Read, wanted: list[tuple[int, int]], width: int, reader: ThreadPoolExecutor
) -> Iterator[Num[np.ndarray, "rows w c"]]:
    """Yields the rows (top, bottom) that are `wanted`, in order; each row is read once, and while others are used."""
    news = [(max(top, before), bottom) for (top, bottom), (_, before) in zip(wanted, [(0, 0), *wanted], strict=False)]
    reads = (reader.submit(lambda a, b: read(int(a), 0, int(b - a), width) if b > a else None, *new) for new in news)
    kept = None
    for (top, bottom), new in zip(wanted, one_behind(reads), strict=True):
        rows = new.result()
        if kept is not None:
            rows = kept[1][top - kept[0] :] if rows is None else np.concatenate([kept[1][top - kept[0] :], rows])
        kept = (top, rows)
        assert len(rows) == bottom - top
        yield rows
