"""The one rule by which a stored image gets the size at which a network sees it: in training and ever after."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Num

from jaxseg.checks import UserError

Box = tuple[float, float, float, float]  # top, left, bottom, right, in pixels of the stored image


@dataclasses.dataclass(frozen=True)
class Resize:
    """A rule (height, width) -> (height, width); at most one of the fields is set. Without one, sizes stay.

    Args:
      factor: both sides are multiplied by it.
      short_side: the shorter side becomes this, in pixels, and the aspect ratio stays.
      size: (height, width) in pixels; the aspect ratio does not stay.
    """

    factor: float = 1.0
    short_side: int = 0
    size: tuple[int, int] | tuple[()] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        numbers = isinstance(self.factor, (int, float)) and isinstance(self.short_side, int)
        if not numbers or not 0 < self.factor <= 64 or self.short_side < 0:
            raise UserError(
                f"data.resize: factor must be positive, at most 64, and short_side a whole number of pixels, got"
                f" {self.factor} and {self.short_side}."
            )
        if self.size and (len(self.size) != 2 or not all(isinstance(n, int) and n > 0 for n in self.size)):
            raise UserError(f"data.resize.size must be (height, width) in pixels, got {self.size}.")
        if (self.factor != 1) + bool(self.short_side) + bool(self.size) > 1:
            raise UserError(f"Set one of data.resize.factor, short_side and size; got {self}.")

    def __bool__(self) -> bool:
        """Whether any size changes."""
        return bool(self.factor != 1 or self.short_side or self.size)

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size at which the network sees an image of this size.

        >>> Resize(short_side=512)(1024, 2048), Resize(factor=0.5)(11, 5)
        ((512, 1024), (6, 2))
        """
        if self.size:
            return self.size
        factor = self.short_side / min(height, width) if self.short_side else self.factor
        return max(1, round(height * factor)), max(1, round(width * factor))

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON holds them."""
        return {**dataclasses.asdict(self), "size": list(self.size)}


AS_STORED = Resize()  # the rule that changes no size


def resize_image(
    image: Num[np.ndarray, "_h _w c"], size: tuple[int, int], box: Box | None = None
) -> Num[np.ndarray, "_h2 _w2 c"]:
    """Resizes the part `box` of an image (all of it, if None): averages when it shrinks, bilinear when it grows.

    >>> resize_image(np.array([[[0], [2], [4], [6]]], np.uint16), (1, 2))[0, :, 0].tolist()
    [1, 5]
    """
    from PIL import Image

    target = dict(size=size[::-1], resample=Image.Resampling.BILINEAR, reducing_gap=None)
    if box is not None:
        target["box"] = (box[1], box[0], box[3], box[2])
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return np.asarray(Image.fromarray(image).resize(**target))
    bands = [
        np.asarray(Image.fromarray(band.astype(np.float32)).resize(**target)) for band in np.moveaxis(image, -1, 0)
    ]
    resized = np.stack(bands, axis=-1)
    if image.dtype == np.float32:
        return resized
    limits = np.iinfo(image.dtype)
    return np.clip(np.round(resized), limits.min, limits.max).astype(image.dtype)


def resize_label(
    label: Num[np.ndarray, "_h _w"], size: tuple[int, int], box: Box | None = None
) -> Num[np.ndarray, "_h2 _w2"]:
    """Resizes the part `box` of a label map (all of it, if None) by taking the nearest pixel.

    >>> resize_label(np.array([[1, 1, 2, 2]], np.uint16), (2, 2)).tolist()
    [[1, 2], [1, 2]]
    """
    top, left, bottom, right = box or (0, 0, *label.shape)
    rows, columns = (
        np.clip((low + (np.arange(n) + 0.5) * (high - low) / n).astype(int), 0, length - 1)
        for n, low, high, length in zip(size, (top, left), (bottom, right), label.shape, strict=True)
    )
    return label[rows[:, None], columns]
