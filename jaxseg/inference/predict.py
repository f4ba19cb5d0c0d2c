"""Prediction: label maps of images at their native size."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Num, UInt8

from jaxseg.checks import UserError
from jaxseg.experiment.devices import batched, place, replicated
from jaxseg.inference.batches import (
    PROGRAMS,
    Grid,
    Groups,
    Programs,
    as_stored,
    find_grid,
    one_behind,
    stack,
    stacked_shapes,
)
from jaxseg.inference.calibration import Calibration, find_calibration
from jaxseg.inference.loaded import check_trained
from jaxseg.inference.logits import (
    has_sigmoids,
    labels_of,
    native_logits,
    predict_logits,
    probabilities_of,
    refiner_of,
)
from jaxseg.inference.memory import saying_what_to_lower
from jaxseg.inference.options import Cutter, Options
from jaxseg.inference.refine import Refiner, find_refiner
from jaxseg.inference.tiled import TiledPredictions
from jaxseg.inference.tiling import Read, Strip, Tiling
from jaxseg.inference.tta import TTA
from jaxseg.trained import TrainedModel

Image = Num[Array | np.ndarray, "_h _w *_c"]  # as stored; gray, of one channel, or RGBA for RGB


_REMEDY = "Cut it into tiles (tile=512), or leave out `refine`."


class Predictor:
    """A trained model as a function `predictor(image) -> label map`, for images of any size.

    Images are preprocessed as in training: resized by its rule, padded at the bottom and right, normalized. Labels are
    of the image's own size. One program is compiled per padded size and number of images.

    Args:
      trained: the model, of `jaxseg.load`.
      bucket: in pixels; larger values compile less often and compute more. None means the model's own.
      threshold: of a model of one class, the probability above which a pixel is labeled 1. None means the model's own.
      calibration: of the probabilities (docs/calibration.md); label maps are those of the model's own logits. None is
        the bundle's, or what `jaxseg eval --calibrate` left in the model's workdir, if it is of this checkpoint.
      refine: "crf" or "guided", with the run's settings, or a function of `create_refiner`: refines the logits
        using the image; the probabilities are then not calibrated (docs/refinement.md).
      mesh: of `jaxseg.training.make_mesh`, of this process: the images of a batch are split over its devices and, if it
        has the axis "fsdp", the variables too. None is the first device.
      programs: compiled ones that are kept, at least 1; a few do where images come ordered by size.
      tile: sides of the tiles, in pixels, that larger images are cut into; "none" predicts every image whole, "auto"
        cuts those for which the memory is too small. None is what the run's config has, else "auto". Refinement then
        sees one tile at a time.
      overlap: share of a tile that its neighbor has too, 0 to less than 1; None likewise, else 0.25.
      blend: of tiles: "gaussian", "constant" or "center" (docs/large.md); None likewise, else "gaussian".
      tta: test-time augmentation: "flip", "d4" and scales, e.g. "flip,0.75,1.25"; None likewise, else none.

    >>> from jaxseg.data.preprocessing import Preprocessing
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
        tile: int | str | None = None,
        overlap: float | None = None,
        blend: str | None = None,
        tta: TTA | str | None = None,
    ):
        self.mesh = mesh
        self.trained = trained = with_changes(check_trained(trained), bucket, threshold)
        self.variables = jax.device_put(trained.variables) if mesh is None else place(trained.variables, mesh)
        self.refined = str(refine or "")
        refine = find_refiner(refine, trained) if isinstance(refine, str) else refine
        calibration = None if refine else calibration or find_calibration(trained)
        self.calibration = calibration
        options = Options.of(trained, tile=tile, overlap=overlap, blend=blend, tta=tta)
        self.options = options

        def apply(variables: Any, images: Float[Array, "b h w c"]) -> Mapping[str, Array]:
            return trained.model.apply(variables if mesh is None else _whole(variables, mesh), images, train=False)

        scoring = {
            "preprocessing": trained.preprocessing,
            "refine": refiner_of(refine, trained),
            "tta": options.tta,
            "sigmoids": has_sigmoids(trained),
        }
        small = jnp.uint8 if len(trained.classes) <= 256 else jnp.uint16

        def labels(logits: Float[Array, "*b c"]) -> Array:
            return labels_of(logits, trained).astype(small)

        def probabilities(logits: Float[Array, "*b c"]) -> Array:
            logits = calibration(logits) if calibration else logits
            return probabilities_of(logits, trained, refined=refine is not None)

        def both(logits: Float[Array, "*b c"]) -> dict[str, Array]:
            p = probabilities(logits)
            return {"label": labels(logits), "probabilities": jnp.round(255 * p).astype(jnp.uint8)}

        def whole(finish: Callable[[Array], Any]) -> Programs:
            def program(variables: Any, batch: Mapping[str, Array], canvas: tuple[int, int]) -> Any:
                return finish(native_logits(apply, variables, batch, canvas=canvas, **scoring))

            return Programs(jax.jit(program, static_argnums=2), programs)

        def score(variables: Any, images: Num[Array, "b h w c"], sizes: Int[Array, "b 2"]) -> Float[Array, "b h w k"]:
            return predict_logits(apply, variables, images, sizes, **scoring)

        kinds = labels, probabilities, both
        self._labels, self._probabilities, self._both = map(whole, kinds)
        device = jax.devices()[0] if mesh is None else mesh.devices.flat[0]
        self._cutter = Cutter(options, trained.preprocessing, device)
        self._tiled_labels, self._tiled_probabilities, self._tiled_both = (
            TiledPredictions(score, finish, trained.preprocessing, mesh=mesh) for finish in kinds
        )

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
        return self._one(image, self._probabilities, self._tiled_probabilities)

    def label_and_probabilities(self, image: Image) -> tuple[Int[np.ndarray, "h w"], UInt8[np.ndarray, "h w c"]]:
        """Returns the labels, and the probabilities in units of 1/255: the network is run once.

        Args:
          image: as for a call.
        """
        found = self._one(image, self._both, self._tiled_both)
        return found["label"].astype(np.int32), found["probabilities"]

    def _one(self, image: Image, whole: Programs, tiled: TiledPredictions) -> Any:
        image = as_stored(image, self.trained.bands)
        h, w = image.shape[:2]
        if tiling := self.tiling((h, w)):
            return tiled(self.variables, image, tiling)
        grid = find_grid((h, w), self.trained.preprocessing)
        batch = self._put(stack([image], grid, self.trained.preprocessing, self._devices))
        with saying_what_to_lower(f"An image of {h}x{w} (height x width)", _REMEDY):
            return jax.tree.map(lambda x: np.asarray(x)[0, :h, :w], whole(self.variables, batch, canvas=grid.canvas))

    def tiling(self, size: tuple[int, int]) -> Tiling | None:
        """Returns how an image of this (height, width) is cut, None if it is predicted whole."""
        seen = self.trained.preprocessing
        grid = find_grid(size, seen)

        def need() -> int:
            sharding = None if self.mesh is None else batched(self.mesh)
            batch = stacked_shapes(grid, seen.bands, self._devices, sharding)
            return self._labels.bytes(self.variables, batch, canvas=grid.canvas)

        return self._cutter(grid, need)

    def label_strips(
        self,
        read: Read,
        size: tuple[int, int],
        tiling: Tiling,
        rows: tuple[int, int] | None = None,
        *,
        probabilities: bool = False,
    ) -> Iterator[Strip]:
        """Yields the labels of an image that need not be in memory, from top to bottom: uint8 or uint16 [rows, w].

        With probabilities, {"label", "probabilities"}, the latter uint8 [rows, w, c] in units of 1/255.

        Args:
          read: (top, left, height, width) -> that part of the image, as stored, inside of it.
          size: (height, width) of the image, pixels.
          tiling: how it is cut, e.g. by the method `tiling`.
          rows: (first, end) of the rows that are wanted; None is all.
          probabilities: whether they are wanted, too.
        """
        tiled = self._tiled_both if probabilities else self._tiled_labels
        return tiled.strips(self.variables, read, size, tiling, rows)

    def predict_batch(self, images: Sequence[Image], *, batch_size: int = 8) -> list[Int[np.ndarray, "_h2 _w2"]]:
        """Returns the label map of every image; images of one padded size are computed together.

        Args:
          images: of any sizes, as for a call.
          batch_size: maximum number of images per batch; a short batch is padded to a power of two.
        """
        images = [as_stored(image, self.trained.bands) for image in images]
        results: list[Any] = [None] * len(images)
        cut = {i: tiling for i, image in enumerate(images) if (tiling := self.tiling(image.shape[:2]))}
        for i, tiling in cut.items():
            results[i] = self._tiled_labels(self.variables, images[i], tiling).astype(np.int32)
        whole = {i: image for i, image in enumerate(images) if i not in cut}
        for labels, grid, indices in one_behind(self._sent(whole, batch_size)):
            with self._naming(grid, len(labels)):
                labels = np.asarray(labels)
            for i, label in zip(indices, labels, strict=False):
                results[i] = label[: images[i].shape[0], : images[i].shape[1]].astype(np.int32)
        return results

    def _sent(
        self, images: Mapping[int, Num[np.ndarray, "_h _w c"]], batch_size: int
    ) -> Iterator[tuple[Array, Grid, list[int]]]:
        """Yields (labels, grid, indices of the images) of the batches; the labels may not be computed yet."""
        for grid, indices, count in self._groups(images, batch_size):
            batch = self._put(stack([images[i] for i in indices], grid, self.trained.preprocessing, count))
            with self._naming(grid, count):
                labels = self._labels(self.variables, batch, canvas=grid.canvas)
            yield labels, grid, indices

    def _naming(self, grid: Grid, count: int) -> AbstractContextManager:
        what = "An image" if count == 1 else f"A batch of {count} images"
        remedy = _REMEDY if count == 1 else "Lower batch_size."
        return saying_what_to_lower(f"{what} of {'x'.join(map(str, grid.canvas))} (height x width)", remedy)

    @property
    def _devices(self) -> int:
        return self.mesh.size if self.mesh else 1

    def _put(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        return batch if self.mesh is None else jax.device_put(batch, batched(self.mesh))

    def _groups(
        self, images: Mapping[int, Num[np.ndarray, "_h _w c"]], batch_size: int
    ) -> Iterator[tuple[Grid, list[int], int]]:
        """Yields (grid, indices of at most `batch_size` images, number that the batch is to have)."""
        groups = Groups(-(-batch_size // self._devices) * self._devices, self._devices)
        for i, image in images.items():
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
