"""Bands: what the numbers of a stored image mean, and how they become the values that networks are given."""

import dataclasses
import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Num

from jaxseg.checks import UserError, listing, lookup
from jaxseg.data.resize import Box, resize_image

FILL = 127.0  # value, in 0..255, of the pixels outside an image and of those that hold nothing
DTYPES = ("uint8", "uint16", "int16", "float32")
_Array = TypeVar("_Array", np.ndarray, jax.Array)


@dataclasses.dataclass(frozen=True)
class Bands:
    """The bands (channels) of the images of a data set, and the range of their values.

    Networks, augmentation and figures work with values from 0 to 255. Images of 8 bits have them already; others are
    mapped by `window`, linearly and band by band, and clipped.

    Args:
      names: of each band, in order.
      dtype: of the stored values: "uint8", "uint16", "int16" or "float32".
      window: of each band, the stored values (low, high) that become 0 and 255; one pair, for all bands, is repeated.
        None is (0, 255) for uint8; for other types it is fitted to the training split (`jaxseg.data.statistics`).
      percentiles: of the values of each band, the two that a fitted window ends at.
      nodata: stored value of pixels that hold nothing, may be nan; None if there is none. Values that are not finite
        hold nothing either. Where all bands hold nothing, the label is ignored.
    """

    names: tuple[str, ...] = ("red", "green", "blue")
    dtype: str = "uint8"
    window: tuple[tuple[float, float], ...] | tuple[float, float] | None = None
    percentiles: tuple[float, float] = (0.1, 99.9)
    nodata: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(map(str, self.names)))
        object.__setattr__(self, "percentiles", tuple(map(float, self.percentiles)))
        lookup(dict.fromkeys(DTYPES, True), self.dtype, "type of images")
        if not self.names:
            raise UserError("An image has at least one band, got none.")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise UserError(f"percentiles must be (low, high) within 0 to 100, got {self.percentiles}.")
        if self.window is not None:
            object.__setattr__(self, "window", self._checked(self.window))

    def _checked(self, window: Any) -> tuple[tuple[float, float], ...]:
        """One pair a band, of one pair for all or of one each."""
        try:
            pairs = np.asarray(window, np.float64)
            pairs = np.broadcast_to(pairs, (len(self.names), 2)) if pairs.ndim == 1 else pairs
            right = (
                pairs.shape == (len(self.names), 2) and np.isfinite(pairs).all() and (pairs[:, 0] < pairs[:, 1]).all()
            )
        except (TypeError, ValueError):
            right = False
        if not right:
            raise UserError(
                f"window must be (low, high) with low < high, in stored values, or one such pair for each of the"
                f" {len(self.names)} bands; got {window}."
            )
        return tuple((float(low), float(high)) for low, high in pairs)

    @property
    def count(self) -> int:
        return len(self.names)

    @property
    def is_rgb(self) -> bool:
        """Whether images are what encoders were trained on: red, green and blue of 8 bits, without a window."""
        return self.dtype == "uint8" and self.window is None and self.names == RGB.names

    @property
    def shown(self) -> tuple[int, int, int]:
        """The bands that figures show as red, green and blue: those of these names, else the first three, or one."""
        lower = [name.lower() for name in self.names]
        if all(color in lower for color in RGB.names):
            return tuple(lower.index(color) for color in RGB.names)
        return (0, 1, 2) if self.count >= 3 else (0, 0, 0)

    def empty(self, image: _Array) -> _Array:
        """Returns where stored values hold nothing, bool of the shape of `image`."""
        numbers = jnp if isinstance(image, jax.Array) else np
        empty = ~numbers.isfinite(image) if self.dtype == "float32" else numbers.zeros(image.shape, bool)
        values = image.astype(jnp.float32) if numbers is jnp else image
        return empty if self.nodata is None or math.isnan(self.nodata) else empty | (values == self.nodata)

    def scale(self, images: Num[Array | np.ndarray, "*b c"]) -> Float[Array, "*b c"]:
        """Returns stored values as float32 from 0 to 255; those that hold nothing as 127.

        >>> Bands(("a", "b"), "uint16", ((0, 1000), (0, 2000))).scale(np.array([[500, 500]], np.uint16)).tolist()
        [[127.5, 63.75]]
        """
        images = jnp.asarray(images)
        values = images.astype(jnp.float32)
        if self.window is not None:
            low, high = np.asarray(self.window, np.float32).T
            low, factor = (jnp.broadcast_to(number, images.shape) for number in (low, 255 / (high - low)))
            values = jnp.clip((values - low) * factor, 0, 255)
        elif self.dtype != "uint8":
            raise UserError(
                f"The range of the {self.dtype} images is not known. Give data.options.window=(low, high), in stored"
                " values."
            )
        return (
            values if self.dtype != "float32" and self.nodata is None else jnp.where(self.empty(images), FILL, values)
        )

    def stored(self, value: float | tuple[float, ...]) -> np.ndarray:
        """Returns the stored values, one a band, that are closest to `value` in 0..255: the inverse of `scale`."""
        low, high = np.asarray(self.window or ((0, 255),) * self.count, np.float64).T
        values = low + np.asarray(value, np.float64) * (high - low) / 255
        return values.astype(np.float32) if self.dtype == "float32" else np.round(values).astype(self.dtype)

    def to_show(self, image: Num[np.ndarray, "h w c"]) -> np.ndarray:
        """Returns an image for people, uint8[h, w, 3]: the bands `shown`, windowed.

        >>> Bands(("gray",), "uint16", ((0, 510),)).to_show(np.array([[[510], [255]]], np.uint16)).tolist()
        [[[255, 255, 255], [128, 128, 128]]]
        """
        if self.is_rgb:
            return np.asarray(image)
        if self.window is None and self.dtype != "uint8":
            from jaxseg.data.statistics import fit_window

            return dataclasses.replace(self, window=fit_window([image], self)).to_show(image)
        return np.round(np.asarray(self.scale(image)))[..., self.shown].astype(np.uint8)

    def check(self, image: np.ndarray, what: str) -> np.ndarray:
        """Returns `image`, or raises a `UserError` if it is not [h, w, c] of these bands and this type."""
        if image.ndim != 3 or image.shape[-1] != self.count or image.dtype.name != self.dtype or not image.size:
            raise UserError(
                f"{what}: expected an image of {self.count} bands ({listing(self.names, 6)}) of {self.dtype},"
                f" [height, width, {self.count}], got {image.dtype} of shape {tuple(image.shape)}. All images of a data"
                " set, and those that its models predict, have the same bands and type (float32 holds all)."
            )
        return image

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON holds them."""
        fields = dataclasses.asdict(self)
        if self.nodata is not None and math.isnan(self.nodata):
            fields["nodata"] = "nan"  # JSON has no other way to say it
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Bands":
        """Returns the record that `to_json` was called on."""
        nodata = fields.get("nodata")
        window = fields.get("window")
        return cls(
            tuple(fields["names"]),
            fields["dtype"],
            None if window is None else tuple(map(tuple, window)),
            tuple(fields["percentiles"]),
            None if nodata is None else float(nodata),
        )


RGB = Bands()


def resize_bands(
    image: Num[np.ndarray, "_h _w c"], size: tuple[int, int], bands: Bands, box: Box | None = None
) -> Num[np.ndarray, "_h2 _w2 c"]:
    """Resizes an image, or the part `box` of it, without mixing values with those that hold nothing.

    A value is the mean of those that hold something; where less than half of them do, it holds nothing.

    >>> bands = Bands(("height",), "float32", nodata=-9999)
    >>> image = np.array([[[1], [3], [-9999], [-9999]]], np.float32)
    >>> resize_bands(image, (1, 2), bands)[0, :, 0].round(2).tolist()
    [2.0, -9999.0]
    """
    empty = np.asarray(bands.empty(image))
    if not empty.any():
        return resize_image(image, size, box)
    share = resize_image((~empty).astype(np.float32), size, box)
    values = resize_image(np.where(empty, 0, image).astype(np.float32), size, box) / np.maximum(share, 1e-6)
    if bands.dtype != "float32":
        limits = np.iinfo(bands.dtype)
        values = np.clip(np.round(values), limits.min, limits.max)
    nothing = np.nan if bands.nodata is None else bands.nodata
    # A share of just half is met by a sum that may be rounded below it.
    return np.where(share < 0.5 - 1e-5, nothing, values).astype(image.dtype)


def empty_pixels(bands: Bands, image: Num[np.ndarray, "h w c"]) -> Bool[np.ndarray, "h w"] | None:
    """Returns the pixels all of whose bands hold nothing, None where no pixel can."""
    if bands.nodata is None and bands.dtype != "float32":
        return None
    return np.asarray(bands.empty(image)).all(-1)


def ignore_empty(
    label: Integer[np.ndarray, "h w"], image: Num[np.ndarray, "h w c"], bands: Bands, ignore: int
) -> Integer[np.ndarray, "h w"]:
    """Returns the label map of an image with `ignore` where the image holds nothing; it is not changed itself.

    >>> bands = Bands(("height",), "float32", nodata=-9999)
    >>> ignore_empty(np.array([[1, 2]]), np.array([[[-9999], [3]]], np.float32), bands, 255).tolist()
    [[255, 2]]
    """
    return fill_empty(label, empty_pixels(bands, image), ignore)


def fill_empty(values: np.ndarray, empty: Bool[np.ndarray, "h w"] | None, value: int) -> np.ndarray:
    """Returns `values` with `value` at the pixels that hold nothing, in a type that holds both; None is no such pixel.

    Args:
      values: [h, w] or [h, w, k].
      empty: of `empty_pixels`.
      value: instead.

    >>> fill_empty(np.array([[1, 2]], np.uint8), np.array([[True, False]]), -100).tolist()
    [[-100, 2]]
    """
    if empty is None:
        return values
    dtype = np.result_type(values.dtype, np.min_scalar_type(value))
    return np.where(empty if values.ndim == 2 else empty[..., None], dtype.type(value), values)
