"""Prediction: label maps of images at their native size."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from jaxseg.checks import UserError
from jaxseg.inference.calibration import Calibration, find_calibration
from jaxseg.inference.refine import Refiner, find_refiner
from jaxseg.ops.normalize import normalize
from jaxseg.trained import TrainedModel

Color = tuple[float, float, float]
Image = UInt8[Array | np.ndarray, "_h _w *_c"]  # as a file has it: gray, of one channel, RGB or RGBA
Apply = Callable[[Any, Float[Array, "b h w 3"]], Mapping[str, Float[Array, "b h w c"]]]


def predict_logits(
    apply: Apply,
    variables: Any,
    images: UInt8[Array, "b h w 3"],
    sizes: Int[Array, "b 2"] | None = None,
    *,
    mean: Color,
    std: Color,
    refine: Refiner | None = None,
) -> Float[Array, "b h w c"]:
    """Returns the model's logits of images in 0 to 255; this function normalizes them.

    With `refine`, the refined logits; this needs `sizes`, the sizes of the images before padding. For a model of one
    class, a background class with logits 0 is added before it: the softmax of the two is the sigmoid of the logit.
    """
    logits = two_or_more(apply(variables, normalize(images, mean, std))["logits"])
    return refine(logits, images, sizes) if refine else logits


def two_or_more(logits: Float[Array, "b h w c"]) -> Float[Array, "b h w labels"]:
    """Returns logits of at least two labels: adds a background of 0 before a single class; returns others unchanged.

    >>> two_or_more(jnp.array([[[[3.0]], [[-1.0]]]])).argmax(-1).tolist()
    [[[1], [0]]]
    """
    if logits.shape[-1] > 1:
        return logits
    return jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)


def predict_step(
    apply: Apply,
    variables: Any,
    images: UInt8[Array, "b h w 3"],
    sizes: Int[Array, "b 2"] | None = None,
    *,
    mean: Color,
    std: Color,
    refine: Refiner | None = None,
) -> Int[Array, "b h w"]:
    """Returns the most probable label of every pixel, int32; pure, can be jitted. Arguments: see `predict_logits`.

    For a model of one class, 1 where its logit is positive, else 0.
    """
    logits = predict_logits(apply, variables, images, sizes, mean=mean, std=std, refine=refine)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def check_channels(trained: TrainedModel) -> None:
    """Raises a `UserError` for what is no trained model, or one of images that are not RGB, which files are read as."""
    if not isinstance(trained, TrainedModel):
        raise UserError(f"Expected a trained model, got {trained!r}. Load it first: jaxseg.load(PATH).")
    if len(trained.mean) != 3:
        raise UserError(
            f"The model takes images of {len(trained.mean)} channels, and images are read as RGB. Normalize arrays"
            " yourself and call `trained.model.apply(trained.variables, images, train=False)`."
        )


def check_bucket(bucket: int) -> int:
    """Returns `bucket`, or raises a `UserError` if it is less than 1 pixel."""
    if bucket < 1:
        raise UserError(f"`bucket` must be at least 1 pixel, got {bucket}.")
    return bucket


def padded_size(h: int, w: int, bucket: int) -> tuple[int, int]:
    """Returns height and width rounded up to multiples of `bucket`.

    >>> padded_size(360, 480, 32)
    (384, 480)
    """
    return -(-h // bucket) * bucket, -(-w // bucket) * bucket


def pad_images(
    images: Sequence[UInt8[np.ndarray, "_h _w 3"]], size: tuple[int, int], mean: Color
) -> UInt8[np.ndarray, "b h w 3"]:
    """Stacks images, each at the top left of `size`, padded with the mean color, which is 0 after normalization.

    >>> pad_images([np.zeros((1, 1, 3), np.uint8)], (1, 2), (9.4, 8.0, 7.0)).tolist()
    [[[[0, 0, 0], [9, 8, 7]]]]
    """
    batch = np.empty((len(images), *size, 3), np.uint8)
    batch[:] = np.round(mean).astype(np.uint8)
    for place, image in zip(batch, images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    return batch


class Predictor:
    """A trained model as a function `predictor(image) -> label map`, for images of any size.

    Images are normalized as in training and padded at the bottom and right to a multiple of `bucket`. One program is
    compiled per padded size and number of images.

    Args:
      trained: the model, of `jaxseg.load`.
      bucket: in pixels; larger values compile less often and compute more. None means the model's own.
      calibration: of the probabilities (docs/calibration.md); label maps are those of the model's own logits. None is
        what `jaxseg eval --calibrate` left in the model's workdir, if it is of this checkpoint.
      refine: "crf" or "guided", with the run's settings, or a function of `create_refiner`: refines the logits
        using the image; the probabilities are then not calibrated (docs/refinement.md).

    >>> class Brightest:  # stands for a model: the class is the brightest channel
    ...     def apply(self, variables, images, *, train):
    ...         return {"logits": images * variables["gain"]}
    >>> colors = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    >>> trained = TrainedModel(Brightest(), {"gain": 1.0}, tuple("rgb"), colors, 255, (0.0,) * 3, (1.0,) * 3)
    >>> Predictor(trained)(np.array([[[9, 0, 0], [0, 0, 5]]], np.uint8)).tolist()
    [[0, 2]]
    """

    def __init__(
        self,
        trained: TrainedModel,
        *,
        bucket: int | None = None,
        calibration: Calibration | None = None,
        refine: str | Refiner | None = None,
    ):
        check_channels(trained)
        self.trained = trained
        self.bucket = check_bucket(trained.bucket if bucket is None else bucket)
        self.variables = jax.device_put(trained.variables)
        refine = find_refiner(refine, trained) if isinstance(refine, str) else refine
        calibration = None if refine else calibration or find_calibration(trained)
        apply = partial(trained.model.apply, train=False)
        options = {"mean": trained.mean, "std": trained.std, "refine": refine}
        # The one logit of one class has become two, whose softmax is its sigmoid.
        each_by_itself = trained.activation == "sigmoid" and trained.model.num_classes > 1
        self._labels = jax.jit(partial(predict_step, apply, **options))
        self.calibration = calibration

        def probabilities(
            variables: Any, images: UInt8[Array, "b h w 3"], sizes: Int[Array, "b 2"]
        ) -> Float[Array, "b h w labels"]:
            logits = predict_logits(apply, variables, images, sizes, **options)
            logits = calibration(logits) if calibration else logits
            return jax.nn.sigmoid(logits) if each_by_itself else jax.nn.softmax(logits)

        self._probabilities = jax.jit(probabilities)

    def __call__(self, image: Image) -> Int[np.ndarray, "h w"]:
        """Returns the class of every pixel, int32.

        Args:
          image: RGB, uint8; gray [h, w], one channel and RGBA are accepted too.
        """
        return self.predict_batch([image])[0]

    def probabilities(self, image: Image) -> Float[np.ndarray, "h w c"]:
        """Returns the probability of every label at every pixel, float32.

        They sum to 1 over the labels. Those of a model whose activation is "sigmoid" do not: each says how likely its
        label is by itself. A model of one class has two labels: the last is the sigmoid of its logit.

        Args:
          image: as for a call.
        """
        image = as_rgb(image)
        h, w = image.shape[:2]
        batch = pad_images([image], padded_size(h, w, self.bucket), self.trained.mean)
        return np.asarray(self._probabilities(self.variables, batch, np.array([(h, w)], np.int32)))[0, :h, :w]

    def predict_batch(self, images: Sequence[Image], *, batch_size: int = 8) -> list[Int[np.ndarray, "_h2 _w2"]]:
        """Returns the label map of every image; images of one padded size are computed together.

        Args:
          images: of any sizes, as for a call.
          batch_size: maximum number of images per batch; a short batch is padded to a power of two.
        """
        images = [as_rgb(image) for image in images]
        results: list[Any] = [None] * len(images)
        for size, indices in self._groups(images, batch_size):
            fill = min(1 << (len(indices) - 1).bit_length(), batch_size)
            chosen = [images[i] for i in indices]
            batch = pad_images(chosen + chosen[-1:] * (fill - len(chosen)), size, self.trained.mean)
            sizes = np.array([image.shape[:2] for image in chosen + chosen[-1:] * (fill - len(chosen))], np.int32)
            labels = np.asarray(self._labels(self.variables, batch, sizes))
            for i, label in zip(indices, labels, strict=False):
                results[i] = label[: images[i].shape[0], : images[i].shape[1]]
        return results

    def _groups(
        self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]], batch_size: int
    ) -> Iterator[tuple[tuple[int, int], list[int]]]:
        """Yields (padded size, indices of at most `batch_size` images)."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            groups.setdefault(padded_size(*image.shape[:2], self.bucket), []).append(i)
        for size, indices in groups.items():
            for start in range(0, len(indices), batch_size):
                yield size, indices[start : start + batch_size]


def as_rgb(image: Array | np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the image as uint8[h, w, 3]: gray is repeated, transparency dropped; anything else is an error.

    >>> as_rgb(np.zeros((2, 3), np.uint8)).shape
    (2, 3, 3)
    >>> as_rgb(np.zeros((2, 3, 3)))
    Traceback (most recent call last):
    jaxseg.checks.UserError: Expected an image of uint8, got float64. Pass it as read from the file, 0 to 255, ...
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise UserError(
            f"Expected an image of uint8, got {image.dtype}. Pass it as read from the file, 0 to 255, not normalized:"
            " the predictor does that."
        )
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3, 4) or not image.size:
        raise UserError(
            f"Expected one image, uint8[height, width, 3], got shape {np.shape(image)}. For several, call"
            " predict_batch with a list; channels come last."
        )
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]
