"""How a model is applied: to whole images or in tiles, with test-time augmentation or without."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference.batches import Grid
from jaxseg.inference.memory import free_memory
from jaxseg.inference.tiling import BLEND, OVERLAP, TILE, Tiling, least_tile, make_tiling
from jaxseg.inference.tta import ALONE, TTA
from jaxseg.trained import TrainedModel

ALWAYS_WHOLE = 2048**2  # pixels of an image that "auto" never cuts
NEVER_WHOLE = 8192**2  # pixels of an image that "auto" always cuts
LARGE, LARGE_TILE = 2**35, 1024  # bytes of free memory from which on "auto" takes larger tiles; their size
SHARE = 0.7  # of the free memory that a whole image may take


@dataclasses.dataclass(frozen=True)
class Options:
    """How a model is applied.

    Args:
      tile: pixels of the sides of tiles; "none" predicts every image whole; "auto" cuts those that would not fit into
        the device's memory. An image that is no larger than a tile is never cut.
      overlap: share of a tile that its neighbor has too.
      blend: "gaussian", "constant" or "center", see `jaxseg.ops.tiling`.
      tta: the variants of test-time augmentation.
    """

    tile: int | str = "auto"
    overlap: float = OVERLAP
    blend: str = BLEND
    tta: TTA = ALONE

    @classmethod
    def of(
        cls,
        trained: TrainedModel,
        *,
        tile: int | str | None = None,
        overlap: float | None = None,
        blend: str | None = None,
        tta: TTA | str | None = None,
    ) -> "Options":
        """Returns the options that are given; those that are None are the run's own, or the defaults.

        Args:
          trained: whose config counts, if it has one.
          tile: as for `Options`, or as text.
          overlap: as for `Options`, as is `blend`.
          blend: see there.
          tta: as for `Options`, or as `TTA.parse` has it.
        """
        own = (trained.config or default_config()).eval
        given = {"tile": tile, "overlap": overlap, "blend": blend, "tta": tta}
        found = {name: own[name] if value is None else value for name, value in given.items()}
        if not isinstance(found["tta"], TTA):
            found["tta"] = TTA.parse(found["tta"])
        if found["tile"] not in ("auto", "none"):
            try:
                found["tile"] = int(found["tile"])
            except ValueError:
                raise UserError(f"tile is a number of pixels, 'auto' or 'none', got '{found['tile']}'.") from None
        options = cls(**found)
        seen = trained.preprocessing
        make_tiling(seen, **options._sizes(TILE, seen))  # raises for what is no way to cut images
        return options

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON holds them."""
        return {"tile": self.tile, "overlap": self.overlap, "blend": self.blend, "tta": str(self.tta)}

    def _sizes(self, auto: int, preprocessing: Preprocessing) -> dict[str, Any]:
        tile = self.tile if isinstance(self.tile, int) else max(auto, least_tile(preprocessing, self.overlap))
        return {"tile": tile, "overlap": self.overlap, "blend": self.blend}


class Cutter:
    """Decides, by an image's size, whether it is cut, and how.

    Args:
      options: what is asked for.
      preprocessing: of the model.
      device: on which it runs.
    """

    def __init__(self, options: Options, preprocessing: Preprocessing, device: jax.Device):
        self._options, self._preprocessing, self._device = options, preprocessing, device
        self._found: dict[Grid, Tiling | None] = {}

    def __call__(self, grid: Grid, need: Callable[[], int]) -> Tiling | None:
        """Returns how images of a grid are cut, None if they are whole.

        Args:
          grid: of `find_grid`.
          need: returns the bytes that such an image takes whole; it is asked for sizes between `ALWAYS_WHOLE` and
            `NEVER_WHOLE`.
        """
        if grid not in self._found:
            self._found[grid] = self._choose(grid, need)
        return self._found[grid]

    def _choose(self, grid: Grid, need: Callable[[], int]) -> Tiling | None:
        tile = self._options.tile
        area = max(height * width for height, width in grid)
        if tile == "none" or (tile == "auto" and area <= ALWAYS_WHOLE):
            return None
        free = free_memory(self._device) if tile == "auto" else None
        auto = LARGE_TILE if free is not None and free >= LARGE else TILE
        tiling = make_tiling(self._preprocessing, **self._options._sizes(auto, self._preprocessing))
        if all(n <= t for n, t in zip(grid.padded, tiling.tile, strict=True)):
            return None
        whole = tile == "auto" and area <= NEVER_WHOLE and (free is None or need() <= SHARE * free)
        return None if whole else tiling
