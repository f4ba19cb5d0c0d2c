"""Preprocessing: what is done to a stored image before a network sees it, by training, evaluation and prediction."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Array, Float, Num

from jaxseg.checks import UserError, lookup
from jaxseg.data.bands import FILL, RGB, Bands
from jaxseg.data.resize import AS_STORED, Resize
from jaxseg.files import Fields, is_finite, is_list, is_whole, short
from jaxseg.ops.normalize import normalize

Fill = Literal["gray", "mean", "reflect"]
GREATEST = 8192  # pixels of a bucket
FILLS: dict[str, str] = {
    "gray": "127, as training shows outside of images that are zoomed out or smaller than the crop",
    "mean": "the mean of the pixels, which is 0 after normalization, to the rounding of stored values",
    "reflect": "the image, mirrored",
}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How stored images become what a network was trained on. A trained model and its bundle carry it.

    Images are resized by the rule, padded at the bottom and right, scaled to 0..255 and normalized.

    Args:
      mean: of each band, in 0..255 after the bands' window; subtracted.
      std: of each band, in the same units; what is left is divided by it.
      bands: of the images.
      resize: the rule of the size.
      fill: what padding consists of, a key of `FILLS`.
      phase: (height, width); padded sizes are congruent to it modulo `bucket`. It is that of the training crop: where
        the cells of a network's coarsest features lie relative to the border changes what it says.
      bucket: in pixels, a multiple of the network's stride. Padded sizes differ by multiples of it, so that few are
        compiled.
      steps: the bucket is doubled for larger images, so often that a size is less than twice as many steps; 0 keeps
        it. Few more pixels are then computed, and few sizes compiled, whatever sizes images have.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bands: Bands = RGB
    resize: Resize = AS_STORED
    fill: Fill = "mean"
    phase: tuple[int, int] = (0, 0)
    bucket: int = 32
    steps: int = 0

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
            if len(getattr(self, name)) != self.bands.count:
                raise UserError(
                    f"Expected the {name} of each of the {self.bands.count} bands, got {len(getattr(self, name))}."
                )
        lookup(FILLS, self.fill, "fill")
        if self.bucket < 1:
            raise UserError(f"`bucket` must be at least 1 pixel, got {self.bucket}.")
        if self.steps < 0:
            raise UserError(f"`steps` must be at least 0, got {self.steps}.")
        object.__setattr__(self, "phase", tuple(int(n) % self.bucket for n in self.phase))

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size, congruent to the phase, that a resized image is padded to.

        >>> p = Preprocessing((0,) * 3, (1,) * 3, phase=(1, 0))
        >>> p.padded(360, 480), p.padded(33, 33)
        ((385, 480), (33, 64))
        """
        return tuple(n + (p - n) % self.step(n) for n, p in zip((height, width), self.phase, strict=True))

    def step(self, length: int) -> int:
        """Returns by how many pixels the padded sizes near `length` pixels differ: the bucket, or a doubled one.

        >>> p = Preprocessing((0,) * 3, (1,) * 3, bucket=8, steps=8)
        >>> [p.step(n) for n in (1, 127, 128, 255, 256)]
        [8, 8, 16, 16, 32]
        """
        times = length // (self.bucket * self.steps) if self.steps else 0
        return self.bucket << max(times.bit_length() - 1, 0)

    def coarser(self, bucket: int) -> "Preprocessing":
        """Returns the same with another bucket, a multiple of its own: fewer padded sizes, and more padding.

        >>> p = Preprocessing((0,) * 3, (1,) * 3, phase=(1, 0))
        >>> p.coarser(64).padded(70, 70)
        (129, 128)
        """
        if bucket < 1 or bucket % self.bucket:
            raise UserError(
                f"The bucket must be a multiple of the model's, {self.bucket} pixels, got {bucket}. Other sizes would"
                " put images elsewhere in the cells of the network's coarsest features than training did."
            )
        return dataclasses.replace(self, bucket=bucket)

    def pad(self, images: Sequence[Num[np.ndarray, "_h _w c"]], size: tuple[int, int]) -> Num[np.ndarray, "b h w c"]:
        """Stacks images, each at the top left of `size`, which padding fills up.

        >>> p = Preprocessing((9.4, 8.0, 7.0), (1,) * 3)
        >>> p.pad([np.zeros((1, 1, 3), np.uint8)], (1, 2)).tolist()
        [[[[0, 0, 0], [9, 8, 7]]]]
        """
        batch = np.empty((len(images), *size, self.bands.count), self.bands.dtype)
        color = self.bands.stored(self.mean if self.fill == "mean" else FILL)
        for place, image in zip(batch, images, strict=True):
            height, width = image.shape[:2]
            if self.fill == "reflect" and image.size:
                place[:] = np.pad(image, ((0, size[0] - height), (0, size[1] - width), (0, 0)), mode="symmetric")
            else:
                place[:] = color
                place[:height, :width] = image
        return batch

    def normalize(self, images: Num[Array | np.ndarray, "*b h w c"]) -> Float[Array, "*b h w c"]:
        """Returns stored images as the network takes them, float32."""
        return normalize(self.bands.scale(images), self.mean, self.std)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON holds them."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "bands": self.bands.to_json(),
            "resize": self.resize.to_json(),
            "fill": self.fill,
            "phase": list(self.phase),
            "bucket": self.bucket,
            "steps": self.steps,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Preprocessing":
        """Returns the record that `to_json` was called on; what an older version did not write was then so."""
        count, resize = len(fields["mean"]), dict(fields.get("resize", {}))
        resize["size"] = tuple(resize.get("size", ()))
        bands = RGB if count == 3 else Bands(tuple(f"band {i + 1}" for i in range(count)))
        return cls(
            tuple(fields["mean"]),
            tuple(fields["std"]),
            Bands.from_json(fields["bands"]) if "bands" in fields else bands,
            Resize(**resize),
            fields.get("fill", "mean"),
            tuple(fields.get("phase", (0, 0))),
            fields.get("bucket", 32),
            fields.get("steps", 0),
        )


def read_preprocessing(fields: Fields, channels: int | None = None) -> Preprocessing:
    """Returns the record that a JSON file holds, whoever wrote it.

    Args:
      fields: of the file.
      channels: that images must have; None takes any number.

    Raises:
      UserError: an entry is not what it must be.
    """
    counts = range(1, 4096) if channels is None else (channels,)
    told = f"{channels or 'a list of'} finite numbers"
    fields.take("mean", is_list(is_finite, counts), told)
    fields.take("std", is_list(lambda value: is_finite(value) and value > 0, counts), f"{told} above 0")
    fields.take("bucket", is_whole(1, GREATEST), f"a whole number from 1 to {GREATEST}", 32)
    fields.take("steps", is_whole(0, GREATEST), f"a whole number from 0 to {GREATEST}", 0)
    for name in ("bands", "resize"):
        fields.take(name, lambda value: isinstance(value, Mapping), "an object", None)
    fields.take("phase", is_list(is_whole(0, GREATEST), (2,)), "two whole numbers", None)
    try:
        return Preprocessing.from_json(fields.values)
    except (UserError, TypeError, ValueError, KeyError, AttributeError) as error:
        told = error if isinstance(error, UserError) else f"{type(error).__name__}: {short(str(error))}"
        raise UserError(f"{fields.path}: '{fields.inside}' does not read: {told} {fields.remedy}") from None
