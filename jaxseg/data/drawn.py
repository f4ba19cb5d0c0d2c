"""A split whose images are drawn when they are asked for, as those of the embedded data sets are."""

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxseg.checks import UserError, check_options

KEPT = 2**27  # bytes of drawn images that a split keeps


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Images of one size, each a pure function of (seed, split, index), and of nothing else.

    To draw one takes as long as a small network's step, so the first `KEPT` bytes of them are kept.

    Args:
      split: its name.
      count: of images.
      size: side of the images, pixels.
      seed: of all splits.
      draw: (random numbers, size, *options) -> image uint8[size, size, 3], label uint8[size, size].
      options: of `draw`.

    >>> def empty(rng, size):
    ...     return np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
    >>> source = Drawn("train", 2, 8, 0, empty)
    >>> len(source), source[1]["image"].shape, source[1]["name"]
    (2, (8, 8, 3), '00001')
    """

    split: str
    count: int
    size: int
    seed: int
    draw: Callable[..., tuple[np.ndarray, np.ndarray]]
    options: tuple[float, ...] = ()
    _kept: dict[int, tuple[np.ndarray, np.ndarray]] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        image, label = self._kept.get(index) or self._drawn(index)
        return {"image": image.copy(), "label": label.copy(), "name": f"{index:05d}"}

    def _drawn(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, zlib.crc32(self.split.encode()), index])
        image, label = self.draw(rng, self.size, *self.options)
        if (len(self._kept) + 1) * (image.nbytes + label.nbytes) <= KEPT:
            self._kept[index] = image, label
        return image, label


def drawn_splits(dataset: Callable, draw: Callable, given: Mapping[str, Any], *, smallest: int) -> dict[str, Drawn]:
    """Returns the splits "train" and "val" of an embedded data set.

    Args:
      dataset: its function, whose annotations say what it takes.
      draw: of `Drawn`.
      given: its arguments: "size", "train", "val" and "seed"; all others are options of `draw`, in their order.
      smallest: side of its images, pixels.

    Raises:
      UserError: an argument is of another type than its annotation, an image too small, or a count below 0.
    """
    name = dataset.__name__
    check_options(dataset, given, f"data set '{name}'")
    own = {key: given[key] for key in ("size", "train", "val", "seed")}
    if own["size"] < smallest or min(own.values()) < 0:
        raise UserError(
            f"{name}: expected size >= {smallest}, counts and seed >= 0, got"
            f" {', '.join(f'{key}={value!r}' for key, value in own.items())}."
        )
    options = tuple(value for key, value in given.items() if key not in own)
    return {split: Drawn(split, own[split], own["size"], own["seed"], draw, options) for split in ("train", "val")}
