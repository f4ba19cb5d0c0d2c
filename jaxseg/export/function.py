"""The function that is exported: stored images in, labels, probabilities or logits out."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Num

from jaxseg.checks import UserError, lookup
from jaxseg.data.bands import FILL, RGB, Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.resize import resize_image
from jaxseg.export.tiles import predict_tiles
from jaxseg.inference.calibration import Calibration
from jaxseg.inference.logits import has_sigmoids, labels_of, predict_logits, probabilities_of
from jaxseg.inference.tiling import BLEND, OVERLAP, Tiling, make_tiling
from jaxseg.inference.tta import ALONE, TTA
from jaxseg.ops.resize import resize
from jaxseg.trained import TrainedModel

Output = Literal["labels", "probabilities", "logits"]
OUTPUTS: dict[str, str] = {
    "labels": "of every pixel",
    "probabilities": "of every label at every pixel, calibrated where the run is",
    "logits": "of every label at every pixel, before any calibration",
}
DYNAMIC = ("batch", "size")
LARGEST = 2**26  # pixels of an image; its logits take gigabytes


@dataclasses.dataclass(frozen=True)
class Form:
    """What an exported function takes and returns.

    Args:
      size: (height, width) of the images, pixels; with "size" in `dynamic` the largest, and images may be smaller.
      output: a key of `OUTPUTS`.
      dynamic: what a call may choose: "batch", the number of images, "size", that of the images.
      batch: number of images, where a call may not choose it.
      tile: sides of the tiles, in pixels, that larger images are cut into; None is no tiles.
      overlap: share of a tile that its neighbor has too, 0 to less than 1.
      blend: of tiles, a key of `jaxseg.ops.tiling.BLENDS`.
      tta: the variants of test-time augmentation.
    """

    size: tuple[int, int]
    output: Output = "labels"
    dynamic: tuple[str, ...] = ()
    batch: int = 1
    tile: int | None = None
    overlap: float = OVERLAP
    blend: str = BLEND
    tta: TTA = ALONE

    def __post_init__(self) -> None:
        lookup(OUTPUTS, self.output, "output")
        object.__setattr__(self, "dynamic", tuple(name for name in DYNAMIC if name in self.dynamic))
        if len(self.size) != 2 or not all(n >= 1 for n in self.size) or self.size[0] * self.size[1] > LARGEST:
            raise UserError(f"The size must be (height, width), 1 to {LARGEST} pixels in all, got {self.size}.")
        if self.batch < 1:
            raise UserError(f"The batch must be at least 1 image, got {self.batch}.")

    def shape(self, channels: int) -> tuple[int | str, ...]:
        """Returns the shape of the images; a name stands for what a call chooses."""
        size = ("height", "width") if "size" in self.dynamic else self.size
        return ("batch" if "batch" in self.dynamic else self.batch, *size, channels)


def default_size(trained: TrainedModel) -> tuple[int, int]:
    """Returns the (height, width) of the images that a model is most likely to be for, pixels."""
    if trained.preprocessing.resize.size:
        return tuple(trained.preprocessing.resize.size)
    return tuple(trained.config.data.crop) if trained.config else (512, 512)


def network_size(trained: TrainedModel, form: Form) -> tuple[int, int]:
    """Returns the (height, width) that the network sees: resized by the model's rule, and padded."""
    return trained.preprocessing.padded(*trained.preprocessing.resize(*form.size))


def check_form(trained: TrainedModel, form: Form) -> None:
    """Raises a `UserError` where the model's rule of resizing, or the tiles, cannot be part of the function."""
    seen = trained.preprocessing
    if form.tile is not None:
        find_tiling(trained, form)
        if "size" in form.dynamic:
            raise UserError(
                "Tiles lie where the size of the images says: a function that has them is of one size. Leave out"
                " `dynamic` size, and export one file a size."
            )
        if seen.bands.nodata is not None:
            raise UserError(
                "Tiles that hold nothing do not count, and only jaxseg looks for them. Export without --tile, or use"
                " `jaxseg predict`."
            )
    if not seen.resize:
        return
    if "size" in form.dynamic:
        raise UserError(
            f"The model sees images resized, by {seen.resize}: a function that does this is of one size. Leave out"
            " `dynamic` size, and export one file a size."
        )
    if seen.bands.nodata is not None or seen.bands.dtype == "float32":
        raise UserError(
            f"The model sees images resized, by {seen.resize}, and pixels of them may hold nothing: only jaxseg resizes"
            " these. Use `jaxseg predict`."
        )


def find_tiling(trained: TrainedModel, form: Form) -> Tiling | None:
    """Returns how images of `form.size` are cut; None if they are whole.

    Raises:
      UserError: no tiles of this size and overlap fit the model.
    """
    if form.tile is None:
        return None
    tiling = make_tiling(trained.preprocessing, form.tile, form.overlap, form.blend)
    whole = all(n <= most for n, most in zip(network_size(trained, form), tiling.tile, strict=True))
    return None if whole else tiling


def create_function(
    trained: TrainedModel, form: Form, calibration: Calibration | None = None
) -> Callable[[Any, Num[ArrayLike, "b h w c"]], Array]:
    """Returns the function (variables, images) -> labels, probabilities or logits at the images' own size.

    Args:
      trained: the model.
      form: of the function. Images have `form.size`, or less where that is dynamic.
      calibration: of the probabilities.
    """
    check_form(trained, form)
    seen = trained.preprocessing
    small = jnp.uint8 if len(trained.classes) <= 256 else jnp.uint16
    padded, tiling = network_size(trained, form), find_tiling(trained, form)
    apply = partial(trained.model.apply, train=False)
    fill = partial(fill_up, preprocessing=seen)
    scored = partial(predict_logits, apply, preprocessing=seen, tta=form.tta, sigmoids=has_sigmoids(trained))

    def whole(variables: Any, images: Num[Array, "b h w c"]) -> Float[Array, "b h w k"]:
        inside = images.shape[1:3]
        sizes = jnp.broadcast_to(jnp.stack([jnp.asarray(n, jnp.int32) for n in inside]), (images.shape[0], 2))
        logits = scored(variables, fill(images, padded), sizes)
        for axis, length in zip((1, 2), inside, strict=True):  # an index would gather, where lengths are symbols
            logits = lax.slice_in_dim(logits, 0, length, axis=axis)
        return logits

    def function(variables: Any, images: Num[ArrayLike, "b h w c"]) -> Array:
        images = jnp.asarray(images)
        native = images.shape[1:3]
        if seen.resize:
            images = resize_stored(images, seen.resize(*native), seen.bands)
        if tiling:
            logits = predict_tiles(partial(scored, variables), fill, images, tiling, seen)
        else:
            logits = whole(variables, images)
        logits = resize(logits, native) if seen.resize else logits
        if form.output == "labels":
            return labels_of(logits, trained).astype(small)
        if form.output == "logits":
            return logits
        return probabilities_of(calibration(logits) if calibration else logits, trained)

    return function


def fill_up(
    images: Num[ArrayLike, "b _h _w c"], size: tuple[int, int], preprocessing: Preprocessing
) -> Num[Array, "b _h2 _w2 c"]:
    """Returns `Preprocessing.pad` of images of one size, which may be symbols.

    >>> p = Preprocessing((9.4, 8.0, 7.0), (1,) * 3)
    >>> fill_up(jnp.zeros((1, 1, 1, 3), jnp.uint8), (1, 2), p).tolist()
    [[[[0, 0, 0], [9, 8, 7]]]]
    """
    images, bands = jnp.asarray(images), preprocessing.bands
    color = bands.stored(preprocessing.mean if preprocessing.fill == "mean" else FILL)
    for axis, new in zip((1, 2), size, strict=True):
        length = images.shape[axis]
        if isinstance(length, int) and length == new:
            continue
        at = jnp.arange(new, dtype=jnp.int32)
        length = jnp.asarray(length, jnp.int32)
        if preprocessing.fill == "reflect":
            turn = at % (2 * length)
            source = jnp.minimum(turn, 2 * length - 1 - turn)
        else:
            source = jnp.minimum(at, length - 1)
        images = jnp.take(images, source, axis=axis, mode="clip")
        if preprocessing.fill != "reflect":
            inside = jnp.expand_dims(at < length, [n for n in range(4) if n != axis])
            images = jnp.where(inside, images, jnp.asarray(color, images.dtype)[None, None, None])
    return images


def resize_stored(
    images: Num[ArrayLike, "b _h _w c"], size: tuple[int, int], bands: Bands
) -> Num[Array, "b _h2 _w2 c"]:
    """Returns what `jaxseg.data.resize.resize_image` makes of images, by the same weights in the same order.

    Where an integer lies between two, floats may round to the other one.
    """
    images = jnp.asarray(images)
    old = images.shape[1:3]
    return images if old == tuple(size) else _resize(images, tuple(size), bands, _first_axis(old, tuple(size)))


def _resize(
    images: Num[ArrayLike, "b _h _w c"], size: tuple[int, int], bands: Bands, first: int
) -> Num[Array, "b _h2 _w2 c"]:
    """Resizes along one axis and then along the other."""
    limits = np.iinfo(bands.dtype)
    stepwise = bands.dtype == "uint8" and bands.count == 3  # as Pillow does with color
    values = images.astype(jnp.float32)
    for number, axis in enumerate((first, 3 - first)):
        old, new = images.shape[axis], size[axis - 1]
        if old != new:
            weights = resize_image(np.eye(old, dtype=np.float32)[..., None], (old, new))[..., 0]
            subscripts = "bhwc,hv->bvwc" if axis == 1 else "bhwc,wv->bhvc"
            values = jnp.einsum(subscripts, values, jnp.asarray(weights), precision="highest")
        if stepwise or number == 1:
            values = jnp.clip(jnp.floor(values + 0.5), limits.min, limits.max)
    return values.astype(images.dtype)


def _first_axis(old: tuple[int, int], size: tuple[int, int]) -> int:
    """The axis that Pillow resizes first, which has depended on its version and on what is cheaper: looked up."""
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    wanted = resize_image(image, size)
    with jax.ensure_compile_time_eval():
        wrong = [
            (np.asarray(_resize(jnp.asarray(image[None]), size, RGB, axis))[0] != wanted).mean() for axis in (2, 1)
        ]
    return 2 if wrong[0] <= wrong[1] else 1
