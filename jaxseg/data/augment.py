"""Augmentation on the device, within the training step: one warp per sample, then color, blur and noise.

Each sample draws from its own key, so what happens to it depends neither on the others nor on how the batch is sharded.
Options that are off are not compiled. Scale and flip of 8 images of 360x480, cropped to 320x320, take 14 ms on two
CPU cores, of which the warp 4 ms: it gathers four pixels for each output pixel. Interpolation matrices took 30 ms.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, Num

from jaxseg.checks import UserError, listing
from jaxseg.data.bands import FILL, RGB, Bands
from jaxseg.ops import warp
from jaxseg.ops.normalize import REC601, normalize

LUMA = np.array(REC601, np.float32)
TO_YIQ = np.array([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float32)
KEYS = ("scale", "aspect", "flip", "offset", "rotate", "elastic", "color", "blur", "noise")  # order fixes draws


@dataclasses.dataclass(frozen=True)
class Augment:
    """Options of the augmentation; fields and defaults are those of `config.augment`.

    Geometry is one warp per sample, from the canvas to the crop.
    """

    scale: tuple[float, float] = (1.0, 1.0)  # range of the zoom, drawn log-uniformly; 2.0 shows objects twice as large
    aspect: float = 1.0  # largest stretch of width against height, >= 1
    flip: float = 0.5  # probability of a left-right flip
    flip_vertical: float = 0.0  # probability of an up-down flip
    rotate: float = 0.0  # largest rotation, degrees
    elastic: float = 0.0  # standard deviation of the displacement on a coarse grid, pixels of the crop; 0 is off
    elastic_grid: int = 4  # points a side of that grid (U-Net uses 3)
    brightness: float = 0.0  # largest relative change, 0.2 is x0.8 to x1.2
    contrast: float = 0.0  # largest relative change
    saturation: float = 0.0  # largest relative change
    hue: float = 0.0  # largest turn, as a fraction of the color circle, <= 0.5
    blur: float = 0.0  # probability of a Gaussian blur
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # its standard deviation, pixels
    noise: float = 0.0  # largest standard deviation of Gaussian noise, in units of 1/255

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(self.scale))
        object.__setattr__(self, "blur_sigma", tuple(self.blur_sigma))
        for name, low, high in (
            ("aspect", 1, math.inf),
            ("flip", 0, 1),
            ("flip_vertical", 0, 1),
            ("rotate", 0, 180),
            ("elastic", 0, math.inf),
            ("elastic_grid", 2, 64),
            ("brightness", 0, 1),
            ("contrast", 0, 1),
            ("saturation", 0, 1),
            ("hue", 0, 0.5),
            ("blur", 0, 1),
            ("noise", 0, 255),
        ):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"augment.{name}: expected {low} to {high}, got {getattr(self, name)}.")
        for name in ("scale", "blur_sigma"):
            limits = getattr(self, name)
            if len(limits) != 2 or not 0 < limits[0] <= limits[1] < math.inf:
                raise UserError(f"augment.{name}: expected (low, high) with 0 < low <= high, got {limits}.")


def augment(
    key: Array,
    batch: Mapping[str, Num[Array | np.ndarray, "..."]],
    options: Augment | Mapping[str, Any],
    *,
    crop: tuple[int, int],
    ignore: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    bands: Bands = RGB,
) -> dict[str, Array]:
    """Transforms, crops and normalizes a batch.

    A window is cut out of the zoomed image at a random position; an image smaller than the window is placed at a
    random position in it. Labels are sampled by nearest neighbor. Outside the image the result is gray 127, and `where`
    is False.

    Args:
      key: of the draws.
      batch: "image", [b, H, W, c], as stored, and "label", integers[b, H, W].
      options: an `Augment`, or its fields, as in `config.augment`; static under jit, as all that follow.
      crop: (height, width) of the output, pixels.
      ignore: the ignore label.
      mean: of each band, in 0..255, subtracted from the result.
      std: of each band, in 0..255, that the result is divided by.
      bands: of the images; what is changed are the values from 0 to 255 that their window makes.

    Returns:
      "image", float32[b, h, w, c], normalized; "label", int32[b, h, w], 0 where ignored; "where", bool[b, h, w].
    """
    if not isinstance(options, Augment):
        options = Augment(**options)
    check_colors(options, bands)
    if not bands.is_rgb or bands.nodata is not None:  # before values are mixed with those that hold nothing
        batch = {**batch, "image": bands.scale(batch["image"])}

    def one(
        key: Array, image: Num[Array, "H W c"], label: Integer[Array, "H W"]
    ) -> tuple[Float[Array, "h w c"], Int[Array, "h w"]]:
        keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(KEYS)}
        y, x = _coordinates(keys, options, label.shape, tuple(crop))
        seen = warp.inside(y, x, label.shape)
        image = warp.sample_bilinear(image, y, x)
        image = _photometry(keys, options, image, seen)
        label = warp.sample_nearest(label, y, x).astype(jnp.int32)
        return jnp.where(seen[..., None], image, FILL), jnp.where(seen, label, ignore)

    keys = jax.random.split(key, batch["label"].shape[0])
    image, label = jax.vmap(one)(keys, batch["image"], batch["label"])
    return prepare({"image": image, "label": label}, ignore=ignore, mean=mean, std=std)


def prepare(
    batch: Mapping[str, Array | np.ndarray],
    *,
    ignore: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> dict[str, Array]:
    """Prepares a batch, whose values are from 0 to 255, like `augment`, without augmentation: normalizes it and turns
    the ignore label into `where`."""
    label = batch["label"].astype(jnp.int32)
    where = label != ignore
    return {
        "image": normalize(batch["image"], mean, std),
        "label": jnp.where(where, label, 0),
        "where": where,
    }


def check_colors(options: Augment, bands: Bands) -> None:
    """Raises a `UserError` for options that need red, green and blue where images have other bands."""
    if bands.names != RGB.names:
        for name in ("saturation", "hue"):
            if getattr(options, name):
                raise UserError(
                    f"augment.{name} needs the bands red, green and blue, and the images have"
                    f" {listing(bands.names, 6)}. Set it to 0."
                )


def _between(key: Array, low: float, high: float) -> Float[Array, ""]:
    return jax.random.uniform(key, minval=low, maxval=high)


def _coordinates(
    keys: Mapping[str, Array], options: Augment, size: tuple[int, int], crop: tuple[int, int]
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Draws the geometry of one sample: the source coordinates of its crop."""
    scale = jnp.ones(2)
    if options.scale != (1.0, 1.0):
        scale *= jnp.exp(_between(keys["scale"], *(math.log(s) for s in options.scale)))
    if options.aspect > 1:
        stretch = jnp.exp(0.5 * math.log(options.aspect) * _between(keys["aspect"], -1, 1))
        scale *= jnp.stack([1 / stretch, stretch])
    # Whole pixels, so that an image that is not zoomed is not blurred.
    room = scale * jnp.array(size, jnp.float32) - jnp.array(crop, jnp.float32)
    steps = jnp.floor(jnp.abs(room))
    offset = jnp.minimum(jnp.floor((steps + 1) * jax.random.uniform(keys["offset"], (2,))), steps) * jnp.sign(room)
    flip = angle = displacement = None
    if options.flip or options.flip_vertical:
        flip = jax.random.uniform(keys["flip"], (2,)) < jnp.array([options.flip_vertical, options.flip], jnp.float32)
    if options.rotate:
        angle = _between(keys["rotate"], -1, 1) * math.radians(options.rotate)
    if options.elastic:
        vectors = jax.random.normal(keys["elastic"], (options.elastic_grid, options.elastic_grid, 2))
        displacement = warp.elastic_displacement(options.elastic * vectors, crop)
    return warp.crop_coordinates(
        size, crop, scale=scale, offset=offset, flip=flip, angle=angle, displacement=displacement
    )


def _photometry(
    keys: Mapping[str, Array], options: Augment, image: Float[Array, "h w c"], seen: Bool[Array, "h w"]
) -> Float[Array, "h w c"]:
    """Changes the colors of one image, float32 in 0..255, and blurs and roughens it."""
    color = options.brightness or options.contrast or options.saturation or options.hue
    if color:
        image = _recolor(keys["color"], options, image, seen)
    if options.blur:
        image = _blur(keys["blur"], options, image)
    if options.noise:
        level, grain = jax.random.split(keys["noise"])
        image += _between(level, 0, options.noise) * jax.random.normal(grain, image.shape)
    return jnp.clip(image, 0, 255) if color or options.noise else image


def _recolor(
    key: Array, options: Augment, image: Float[Array, "h w c"], seen: Bool[Array, "h w"]
) -> Float[Array, "h w c"]:
    """Brightness, contrast about the image's mean gray, saturation and hue, as one affine map of the colors.

    The gray of images that have other than three bands is the mean of their bands.

    Hue turns the chroma plane of YIQ, so that gray and luma stay, up to the last clip to 0..255; torchvision turns
    HSV's hue, which shifts luma. Both turn red towards green.
    """
    draws = jax.random.uniform(key, (4,), minval=-1, maxval=1)
    count = image.shape[-1]
    colors, luma = jnp.eye(3), LUMA if count == 3 else np.full(count, 1 / count, np.float32)
    if options.hue:
        cos, sin = (f(2 * math.pi * options.hue * draws[0]) for f in (jnp.cos, jnp.sin))
        turn = jnp.eye(3).at[1:, 1:].set(jnp.array([[cos, sin], [-sin, cos]]))
        colors = jnp.linalg.inv(TO_YIQ) @ turn @ TO_YIQ
    if options.saturation:
        kept = 1 + options.saturation * draws[1]
        colors = (kept * jnp.eye(3) + (1 - kept) * LUMA[None]) @ colors
    gain = (1 + options.brightness * draws[2]) * (1 + options.contrast * draws[3])
    gray = 0.0
    if options.contrast:
        mean = jnp.where(seen, (image * luma).sum(-1), 0).sum() / jnp.maximum(seen.sum(), 1).astype(jnp.float32)
        gray = -options.contrast * draws[3] * (1 + options.brightness * draws[2]) * mean
    if count != 3:  # nothing mixes the bands, and a matrix of hundreds of them would be costly
        return gain * image + gray
    # Not a product of matrices: of so small ones a GPU makes TF32, and XLA a kernel for each.
    return sum(image[..., k, None] * (gain * colors)[:, k] for k in range(3)) + gray


def _blur(key: Array, options: Augment, image: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
    """Convolves with a Gaussian of a random width, or with nothing, in two passes of one width for all samples."""
    choice, width = jax.random.split(key)
    sigma = _between(width, *options.blur_sigma)
    radius = math.ceil(3 * options.blur_sigma[1])
    taps = jnp.arange(-radius, radius + 1.0)
    weights = jnp.exp(-0.5 * (taps / sigma) ** 2)
    nothing = (taps == 0).astype(jnp.float32)
    weights = jnp.where(jax.random.uniform(choice) < options.blur, weights / weights.sum(), nothing)
    for axis in (0, 1):
        length = image.shape[axis]
        around = jnp.pad(image, [(radius, radius) if a == axis else (0, 0) for a in range(3)], mode="edge")
        image = sum(weights[i] * jax.lax.slice_in_dim(around, i, i + length, axis=axis) for i in range(2 * radius + 1))
    return image
