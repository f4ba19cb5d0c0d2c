"""Prediction: label maps of images at their native size."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Num

from jaxseg.checks import UserError
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.experiment.devices import batched, place, replicated
from jaxseg.inference.batches import (
    PROGRAMS,
    Grid,
    Groups,
    Programs,
    as_stored,
    find_grid,
    one_behind,
    shown_bands,
    stack,
)
from jaxseg.inference.calibration import Calibration, find_calibration
from jaxseg.inference.memory import saying_what_to_lower
from jaxseg.inference.refine import Refiner, find_refiner
from jaxseg.ops.resize import resize_within
from jaxseg.trained import TrainedModel

Image = Num[Array | np.ndarray, "_h _w *_c"]  # as stored; gray, of one channel, or RGBA for RGB
Apply = Callable[[Any, Float[Array, "b h w c"]], Mapping[str, Float[Array, "b h w k"]]]


def predict_logits(
    apply: Apply,
    variables: Any,
    images: Num[Array, "b h w c"],
    sizes: Int[Array, "b 2"] | None = None,
    *,
    preprocessing: Preprocessing,
    refine: Refiner | None = None,
) -> Float[Array, "b h w k"]:
    """Returns the model's logits of stored images; this function normalizes them.

    With `refine`, the refined logits; this needs `sizes`, the sizes of the images before padding. For a model of one
    class, a background class with logits 0 is added before it: the softmax of the two is the sigmoid of the logit.
    """
    logits = two_or_more(apply(variables, preprocessing.normalize(images))["logits"])
    return refine(logits, shown_bands(images, preprocessing), sizes) if refine else logits


def native_logits(
    apply: Apply,
    variables: Any,
    batch: Mapping[str, Array],
    *,
    canvas: tuple[int, int],
    preprocessing: Preprocessing,
    refine: Refiner | None = None,
) -> Float[Array, "b h w k"]:
    """Returns the logits of a batch of `batches.stack`, at the images' native sizes within `canvas`."""
    logits = predict_logits(apply, variables, batch["image"], batch["size"], preprocessing=preprocessing, refine=refine)
    return resize_within(logits, batch["size"], batch["native"], canvas) if preprocessing.resize else logits


def two_or_more(logits: Float[Array, "b h w c"]) -> Float[Array, "b h w labels"]:
    """Returns logits of at least two labels: adds a background of 0 before a single class; returns others unchanged.

    >>> two_or_more(jnp.array([[[[3.0]], [[-1.0]]]])).argmax(-1).tolist()
    [[[1], [0]]]
    """
    if logits.shape[-1] > 1:
        return logits
    return jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)


def labels_of(logits: Float[Array, "*b c"], trained: TrainedModel) -> Int[Array, "*b"]:
    """Returns the label of every pixel: the class with the largest logit; of one class, whether it is likely enough.

    Args:
      logits: of at least two labels.
      trained: whose threshold counts, if its model has one class.
    """
    if trained.num_logits > 1:
        return jnp.argmax(logits, axis=-1)
    least = math.log(trained.threshold / (1 - trained.threshold)) if 0 < trained.threshold < 1 else math.inf
    least = -math.inf if trained.threshold == 0 else least
    return (logits[..., 1] - logits[..., 0] > least).astype(jnp.int32)


def has_sigmoids(trained: TrainedModel) -> bool:
    """Returns whether a model has several classes, each with a probability of its own that needs no sum of 1.

    A model of one class has two labels, whose softmax is the sigmoid of its logit.
    """
    return trained.activation == "sigmoid" and trained.num_logits > 1


def probabilities_of(
    logits: Float[Array, "*b c"], trained: TrainedModel, *, refined: bool = False
) -> Float[Array, "*b c"]:
    """Returns the probabilities that the model's activation makes of logits of at least two labels.

    Args:
      logits: of the model, or of a refiner.
      trained: whose activation counts.
      refined: whether a refiner made the logits; they are of exclusive labels, whatever the model's are.
    """
    return jax.nn.sigmoid(logits) if has_sigmoids(trained) and not refined else jax.nn.softmax(logits)


def exclusive_logits(logits: Float[Array, "*b c"], trained: TrainedModel) -> Float[Array, "*b c"]:
    """Returns scores whose softmax is the model's probabilities, divided by their sum where they are of sigmoids.

    This is what refiners start from: a CRF knows exclusive labels only. The largest stays the largest.
    """
    return jax.nn.log_sigmoid(logits) if has_sigmoids(trained) else logits


def refiner_of(refine: Refiner | None, trained: TrainedModel) -> Refiner | None:
    """Returns `refine` as a function of the model's own logits; see `exclusive_logits`."""
    if refine is None or not has_sigmoids(trained):
        return refine
    return lambda logits, images, sizes: refine(exclusive_logits(logits, trained), images, sizes)


def predict_step(
    apply: Apply,
    variables: Any,
    images: Num[Array, "b h w c"],
    sizes: Int[Array, "b 2"] | None = None,
    *,
    preprocessing: Preprocessing,
    refine: Refiner | None = None,
) -> Int[Array, "b h w"]:
    """Returns the most probable label of every pixel, int32; pure, can be jitted. Arguments: see `predict_logits`.

    For a model of one class, 1 where its logit is positive, else 0.
    """
    logits = predict_logits(apply, variables, images, sizes, preprocessing=preprocessing, refine=refine)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def check_trained(trained: TrainedModel) -> TrainedModel:
    """Returns `trained`, or raises a `UserError` for what is no trained model."""
    if not isinstance(trained, TrainedModel):
        raise UserError(f"Expected a trained model, got {trained!r}. Load it first: jaxseg.load(PATH).")
    return trained


class Predictor:
    """A trained model as a function `predictor(image) -> label map`, for images of any size.

    Images are preprocessed as in training: resized by its rule, padded at the bottom and right, normalized. Labels are
    of the image's own size. One program is compiled per padded size and number of images.

    Args:
      trained: the model, of `jaxseg.load`.
      bucket: in pixels; larger values compile less often and compute more. None means the model's own.
      threshold: of a model of one class, the probability above which a pixel is labeled 1. None means the model's own.
      calibration: of the probabilities (docs/calibration.md); label maps are those of the model's own logits. None is
        what `jaxseg eval --calibrate` left in the model's workdir, if it is of this checkpoint.
      refine: "crf" or "guided", with the run's settings, or a function of `create_refiner`: refines the logits
        using the image; the probabilities are then not calibrated (docs/refinement.md).
      mesh: of `jaxseg.training.make_mesh`, of this process: the images of a batch are split over its devices and, if it
        has the axis "fsdp", the variables too. None is the first device.
      programs: compiled ones that are kept, at least 1; a few do where images come ordered by size.

    >>> class Brightest:  # stands for a model: the class is the brightest channel
    ...     num_classes = 3
    ...     def apply(self, variables, images, *, train):
    ...         return {"logits": images * variables["gain"]}
    >>> colors = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    >>> plain = Preprocessing((0.0,) * 3, (1.0,) * 3)
    >>> trained = TrainedModel(Brightest(), {"gain": 1.0}, tuple("rgb"), colors, 255, plain)
    >>> Predictor(trained)(np.array([[[9, 0, 0], [0, 0, 5]]], np.uint8)).tolist()
    [[0, 2]]
    """

    def __init__(
        self,
        trained: TrainedModel,
        *,
        bucket: int | None = None,
        threshold: float | None = None,
        calibration: Calibration | None = None,
        refine: str | Refiner | None = None,
        mesh: Mesh | None = None,
        programs: int = PROGRAMS,
    ):
        self.mesh = mesh
        self.trained = trained = with_changes(check_trained(trained), bucket, threshold)
        self.variables = jax.device_put(trained.variables) if mesh is None else place(trained.variables, mesh)
        refine = find_refiner(refine, trained) if isinstance(refine, str) else refine
        calibration = None if refine else calibration or find_calibration(trained)
        self.calibration = calibration
        apply = partial(trained.model.apply, train=False)
        predict = partial(
            native_logits,
            apply if mesh is None else lambda variables, images: apply(_whole(variables, mesh), images),
            preprocessing=trained.preprocessing,
            refine=refiner_of(refine, trained),
        )
        small = jnp.uint8 if len(trained.classes) <= 256 else jnp.uint16

        def labels(variables: Any, batch: Mapping[str, Array], canvas: tuple[int, int]) -> Array:
            return labels_of(predict(variables, batch, canvas=canvas), trained).astype(small)

        def probabilities(variables: Any, batch: Mapping[str, Array], canvas: tuple[int, int]) -> Array:
            logits = predict(variables, batch, canvas=canvas)
            logits = calibration(logits) if calibration else logits
            return probabilities_of(logits, trained, refined=refine is not None)

        self._labels = Programs(jax.jit(labels, static_argnums=2), programs)
        self._probabilities = Programs(jax.jit(probabilities, static_argnums=2), programs)

    def __call__(self, image: Image) -> Int[np.ndarray, "h w"]:
        """Returns the label of every pixel, int32.

        Args:
          image: as the file holds it, of the bands and the type that the model was trained on; for RGB of uint8, gray
            [h, w], one channel and RGBA are accepted too.
        """
        return self.predict_batch([image])[0]

    def probabilities(self, image: Image) -> Float[np.ndarray, "h w c"]:
        """Returns the probability of every label at every pixel, float32.

        They sum to 1 over the labels. Those of a model whose activation is "sigmoid" do not: each says how likely its
        label is by itself; refined, they do. A model of one class has two labels: the last is the sigmoid of its logit.

        Args:
          image: as for a call.
        """
        image = as_stored(image, self.trained.bands)
        h, w = image.shape[:2]
        grid = find_grid((h, w), self.trained.preprocessing)
        batch = self._put(stack([image], grid, self.trained.preprocessing, self.mesh.size if self.mesh else 1))
        with saying_what_to_lower(f"An image of {h}x{w} (height x width)", "Cut it into tiles, or leave out `refine`."):
            return np.asarray(self._probabilities(self.variables, batch, canvas=grid.canvas))[0, :h, :w]

    def predict_batch(self, images: Sequence[Image], *, batch_size: int = 8) -> list[Int[np.ndarray, "_h2 _w2"]]:
        """Returns the label map of every image; images of one padded size are computed together.

        Args:
          images: of any sizes, as for a call.
          batch_size: maximum number of images per batch; a short batch is padded to a power of two.
        """
        images = [as_stored(image, self.trained.bands) for image in images]
        results: list[Any] = [None] * len(images)
        for labels, grid, indices in one_behind(self._sent(images, batch_size)):
            with self._naming(grid, len(labels)):
                labels = np.asarray(labels)
            for i, label in zip(indices, labels, strict=False):
                results[i] = label[: images[i].shape[0], : images[i].shape[1]].astype(np.int32)
        return results

    def _sent(
        self, images: Sequence[Num[np.ndarray, "_h _w c"]], batch_size: int
    ) -> Iterator[tuple[Array, Grid, list[int]]]:
        """Yields (labels, grid, indices of the images) of the batches; the labels may not be computed yet."""
        for grid, indices, count in self._groups(images, batch_size):
            batch = self._put(stack([images[i] for i in indices], grid, self.trained.preprocessing, count))
            with self._naming(grid, count):
                labels = self._labels(self.variables, batch, canvas=grid.canvas)
            yield labels, grid, indices

    def _naming(self, grid: Grid, count: int) -> AbstractContextManager:
        what = "An image" if count == 1 else f"A batch of {count} images"
        remedy = "Cut it into tiles, or leave out `refine`." if count == 1 else "Lower batch_size."
        return saying_what_to_lower(f"{what} of {'x'.join(map(str, grid.canvas))} (height x width)", remedy)

    def _put(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        return batch if self.mesh is None else jax.device_put(batch, batched(self.mesh))

    def _groups(
        self, images: Sequence[Num[np.ndarray, "_h _w c"]], batch_size: int
    ) -> Iterator[tuple[Grid, list[int], int]]:
        """Yields (grid, indices of at most `batch_size` images, number that the batch is to have)."""
        devices = self.mesh.size if self.mesh else 1
        groups = Groups(-(-batch_size // devices) * devices, devices)
        for i, image in enumerate(images):
            full = groups.add(find_grid(image.shape[:2], self.trained.preprocessing), i)
            if full:
                yield full
        yield from groups.rest()


def _whole(variables: Any, mesh: Mesh) -> Any:
    """The variables gathered on every device of `mesh`, while they are used."""
    return jax.lax.with_sharding_constraint(variables, replicated(mesh))


def with_changes(trained: TrainedModel, bucket: int | None = None, threshold: float | None = None) -> TrainedModel:
    """Returns the trained model with another bucket or threshold; None keeps its own."""
    if threshold is not None:
        if not 0 <= threshold <= 1:
            raise UserError(f"The threshold is a probability, 0 to 1, got {threshold}.")
        trained = dataclasses.replace(trained, threshold=threshold)
    if bucket is not None:
        changed = dataclasses.replace(trained.preprocessing, bucket=bucket, steps=0)
        trained = dataclasses.replace(trained, preprocessing=changed)
    return trained
