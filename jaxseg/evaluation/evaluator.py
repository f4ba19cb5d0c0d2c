"""Evaluation: every image of a split, scored at its native size, exactly over the whole split.

Images are resized and padded as the model's preprocessing says, which is that of its training; its scores are resized
to the image's native size, and padding is not scored. Images of one padded size are evaluated together. Metrics are
counted on the device, int32 per batch and int64 on the host; with several processes each reads its share and the
counts are merged.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Integer
from ml_collections import ConfigDict

from jaxseg import losses, metrics
from jaxseg.checks import listing, percent
from jaxseg.data import Dataset, pipeline
from jaxseg.data.bands import Bands
from jaxseg.evaluation.data import check_bands, check_classes
from jaxseg.evaluation.readable import Counted, Prepared, Readable, summary
from jaxseg.evaluation.step import CALIBRATED, Loss, make_eval_step
from jaxseg.experiment.devices import batched, local_mesh, make_mesh, place
from jaxseg.experiment.limits import check_metrics
from jaxseg.inference.batches import Grid, Groups, Programs, find_grid, one_behind, stack, stacked_shapes
from jaxseg.inference.calibration import Calibration
from jaxseg.inference.loaded import check_trained
from jaxseg.inference.memory import saying_what_to_lower
from jaxseg.inference.options import Cutter, Options
from jaxseg.inference.refine import Refiner
from jaxseg.inference.tiled import TiledPredictions
from jaxseg.inference.tiling import Tiling
from jaxseg.inference.tta import TTA
from jaxseg.metrics import Metric, create_metrics
from jaxseg.trained import TrainedModel

Padded = tuple[dict[str, np.ndarray], list[dict[str, Any]], Grid]  # a batch, its records, and what it is compiled for
_LESS_MEMORY = "Lower config.eval.batch_size, leave out --refine, or cut images into tiles: --tile 512."
_MERGED = 16  # batches whose counts wait to be merged


@dataclasses.dataclass
class Evaluation:
    """The result on a split."""

    matrix: np.ndarray  # int64[C, C], rows are labels
    loss: float  # mean over the images of the loss of each; nan where there is none
    samples: list[dict[str, Any]]  # {"image", "label", "prediction", "name"} of some images
    results: dict[str, dict[str, Any]]  # of every metric
    calibrated: dict[str, dict[str, Any]]  # of those that need probabilities, after the calibration, if there is one
    images: int  # that the scores are of
    unreadable: int = 0  # images that did not read and were left out

    @property
    def scores(self) -> dict[str, Any]:
        """The scores of all metrics by their keys; those of calibrated probabilities under "calibrated"."""
        flat = {key: value for result in self.results.values() for key, value in result.items()}
        if self.calibrated:
            flat["calibrated"] = {key: value for result in self.calibrated.values() for key, value in result.items()}
        return flat

    def never_predicted(self, classes: Sequence[str]) -> str:
        """Returns a sentence on the classes that are labeled and that no pixel is predicted to be, "" without any."""
        labeled, predicted = self.matrix.sum(1), self.matrix.sum(0)
        names = classes if len(classes) == len(labeled) else ("not of the class", *classes)
        lost = np.flatnonzero((labeled > 0) & (predicted == 0))
        if not lost.size:
            return ""
        told = [f"{names[i]} ({percent(labeled[i] / labeled.sum())} of the labeled pixels)" for i in lost]
        return (
            f"Never predicted: {listing(told, 8)}. Train longer, or give rare classes more say: config.data.balance,"
            " Dice beside cross entropy, class weights (jaxseg data check suggests some)."
        )

    def table(self, classes: Sequence[str]) -> str:
        """Returns the scores as text."""
        others = {name: result for name, result in self.results.items() if name != "confusion"}
        others |= {
            f"{name}, calibrated": {k: v for k, v in result.items() if isinstance(v, float)}
            for name, result in self.calibrated.items()
        }
        return "\n\n".join(
            filter(
                None,
                [metrics.format_table(self.results["confusion"], classes), metrics.format_results(others, classes)],
            )
        )


class Evaluator:
    """Evaluates a trained model on a data set; its compiled programs are kept between calls.

    Args:
      trained: the model.
      dataset: with the model's classes.
      mesh: of which the devices of this process are used; None is all devices.
      metrics: by name, of `jaxseg.metrics.create_metrics`; "confusion" must be among them. None is that alone.
      batch_size: images of one padded size evaluated together.
      loss: (logits, labels, where, step) -> its mean over the valid pixels; None is no loss. It is called on every
        image by itself, at the image's own size.
      calibration: the metrics that need probabilities are also computed after it.
      refine: scores are those of the refined predictions; so is the loss.
      threads: that read images; 0 is one per core.
      strict: whether an image that does not read raises its `UserError`. It is else left out, with a warning.
      tile: as for `jaxseg.Predictor`, as are `overlap`, `blend` and `tta`.
      overlap: see there.
      blend: see there.
      tta: see there.
    """

    def __init__(
        self,
        trained: TrainedModel,
        dataset: Dataset,
        mesh: Mesh | None = None,
        *,
        metrics: Mapping[str, Metric] | None = None,
        batch_size: int = 8,
        loss: Loss | None = None,
        calibration: Calibration | None = None,
        refine: Refiner | None = None,
        threads: int = 0,
        strict: bool = False,
        tile: int | str | None = None,
        overlap: float | None = None,
        blend: str | None = None,
        tta: TTA | str | None = None,
    ):
        self.trained, self.dataset = check_trained(trained), dataset
        self.mesh = local_mesh(make_mesh() if mesh is None else mesh)
        self.batch_size = -(-batch_size // self.mesh.size) * self.mesh.size
        self.metrics = dict(create_metrics(("confusion",), {}) if metrics is None else metrics)
        self.calibration, self.threads, self.strict = calibration, threads, strict
        self._unreadable: list[str] = []  # of the last split
        check_classes(trained, dataset)
        check_bands(trained, dataset)
        self.options = options = Options.of(trained, tile=tile, overlap=overlap, blend=blend, tta=tta)
        step, scored, score = make_eval_step(
            trained, dataset.ignore, self.mesh, self.metrics, loss, calibration, refine, options.tta
        )
        self._step, self._scored = Programs(step), Programs(scored)
        self._tiles = TiledPredictions(score, lambda logits: logits, trained.preprocessing, mesh=self.mesh)
        self._cutter = Cutter(options, trained.preprocessing, self.mesh.devices.flat[0])

    def __call__(
        self,
        split: str,
        *,
        variables: Mapping[str, Any] | None = None,
        images: int = 0,
        step: int = 0,
        progress: Callable[[Iterator], Iterator] = iter,
    ) -> Evaluation:
        """Returns the scores of the model on `split`.

        Args:
          split: a key of the data set's splits.
          variables: in place of the trained model's own, arrays of this process: of a model that is still training.
          images: how many samples to return, spread evenly over the split (neighbors are often alike).
          step: of training, for weights of the loss that change over the steps.
          progress: wraps the iterator of records, to draw a progress bar.
        """
        total, count, scored, samples, tallies = 0.0, 0, 0, [], {}
        variables = self.variables if variables is None else variables
        own = len(range(jax.process_index(), len(self.dataset.splits[split]), jax.process_count()))
        chosen = set(np.linspace(0, own - 1, min(images, own)).round().astype(int).tolist())
        for prediction, found, loss, records in self._results(split, variables, step, progress):
            for name, tally in found.items():
                rows = {key: np.asarray(value)[: len(records)] for key, value in tally.images.items()}
                waiting = tallies.setdefault(name, [])
                waiting.append(metrics.Tally(tally.sums, rows))
                if len(waiting) == _MERGED:
                    waiting[:] = [metrics.merge(waiting)]
            losses_of = np.asarray(loss, np.float64)[: len(records)]
            counted = np.array([(record["label"] != self.dataset.ignore).any() for record in records])
            total, count = total + losses_of[counted].sum(), count + int(counted.sum())
            scored += len(records)
            if chosen & {record["index"] for record in records}:
                samples += _crop_samples(np.asarray(prediction), records, self.trained.bands)
        samples = sorted((s for s in samples if s["index"] in chosen), key=lambda sample: sample["index"])
        own = {"images": count, "scored": scored, "unreadable": len(self._unreadable)}
        own = {"loss": np.float64(total), **{name: np.int64(value) for name, value in own.items()}}
        sums = metrics.merge_processes(metrics.Tally(own, {})).sums
        whole = {name: metrics.merge_processes(metrics.merge(tallies[name])) for name in sorted(tallies)}
        results = {name: metric.result(whole[name]) for name, metric in self.metrics.items()}
        calibrated = {
            name: self.metrics[name].result(whole[CALIBRATED + name])
            for name in self.metrics
            if CALIBRATED + name in whole
        }
        loss = float(sums["loss"]) / int(sums["images"]) if int(sums["images"]) else float("nan")
        images, unreadable = int(sums["scored"]), int(sums["unreadable"])
        return Evaluation(whole["confusion"].sums["matrix"], loss, samples, results, calibrated, images, unreadable)

    def _results(
        self, split: str, variables: Mapping[str, Any], step: int, progress: Callable[[Iterator], Iterator]
    ) -> Iterator[tuple[Array, dict[str, metrics.Tally], Array, list[dict[str, Any]]]]:
        """Yields (predictions, tallies, losses, records) of every batch, each when the next one has been sent off.

        So the device computes one batch while the host counts another, and reads and pads a third.
        """

        def naming(grid: Grid) -> AbstractContextManager:
            return saying_what_to_lower(f"A batch of {self.batch_size} images of {grid.canvas}", _LESS_MEMORY)

        def sent() -> Iterator[tuple[Any, list[dict[str, Any]], Grid]]:
            for batch, records, grid in self.batches(split, progress):
                with naming(grid):
                    tiling = self._tiling(variables, grid)
                    if tiling:
                        batch["logits"] = self._tiled_logits(variables, records, len(batch.pop("image")), grid, tiling)
                    batch = jax.device_put(batch, batched(self.mesh))
                    given = ({} if tiling else variables, batch, np.int32(step))
                    results = (self._scored if tiling else self._step)(*given, canvas=grid.canvas)
                yield results, records, grid

        for results, records, grid in one_behind(sent()):
            with naming(grid):
                yield *jax.block_until_ready(results), records

    def _tiling(self, variables: Mapping[str, Any], grid: Grid) -> Tiling | None:
        """How images of a grid are cut, None if they are whole."""

        def need() -> int:
            split, count = batched(self.mesh), self.mesh.size
            batch = stacked_shapes(grid, self.trained.bands, count, split)
            batch["label"] = jax.ShapeDtypeStruct((count, *grid.canvas), self.dataset.label_type, sharding=split)
            return self._step.bytes(variables, batch, np.int32(0), canvas=grid.canvas)

        return self._cutter(grid, need)

    def _tiled_logits(
        self,
        variables: Mapping[str, Any],
        records: Sequence[Mapping[str, Any]],
        count: int,
        grid: Grid,
        tiling: Tiling,
    ) -> Float[np.ndarray, "b h w k"]:
        """Predicts the images of a batch of `count` one by one."""
        found = [self._tiles(variables, record["image"], tiling) for record in records]
        logits = np.zeros((count, *grid.canvas, found[0].shape[-1]), np.float32)
        for row, own in zip(logits, found, strict=False):
            row[: own.shape[0], : own.shape[1]] = own
        return logits

    @cached_property
    def variables(self) -> dict[str, Any]:
        """The trained model's, on the devices of this process."""
        return place(self.trained.variables, self.mesh)

    def batches(self, split: str, progress: Callable[[Iterator], Iterator] = iter) -> Iterator[Padded]:
        """Yields (batch, its records, its grid): images of one padded size together, short batches filled up.

        What does not read is left out, with a warning at the end; see `strict`.
        """
        shard, source = (jax.process_index(), jax.process_count()), self.dataset.splits[split]
        counted = Counted(source, self.trained.bands, self.dataset.ignore)
        prepared = Prepared(counted if self.strict else Readable(counted), self.trained.preprocessing)
        records = pipeline.eval_records(prepared, shard=shard, threads=self.threads)
        groups = Groups(self.batch_size, self.mesh.size)
        self._unreadable = []
        for index, record in enumerate(progress(records)):
            if "unreadable" in record:
                self._unreadable.append(record["unreadable"])
                continue
            grid = find_grid(record["label"].shape, self.trained.preprocessing)
            if full := groups.add(grid, {**record, "index": index}):
                yield self._stack(*full)
        for short in groups.rest():
            yield self._stack(*short)
        if self._unreadable:
            own = len(range(shard[0], len(source), shard[1]))
            warnings.warn(summary(split, own, self._unreadable), stacklevel=2)

    def _stack(self, grid: Grid, records: list[dict[str, Any]], count: int) -> Padded:
        """Makes a batch of `count` images, those that are missing without a pixel that counts."""
        preprocessing, ignore = self.trained.preprocessing, self.dataset.ignore
        images = [record["image"] for record in records]
        batch = stack(images, grid, preprocessing, count, resized=[record.pop("resized") for record in records])
        batch["label"] = np.full((count, *grid.canvas), ignore, self.dataset.label_type)
        for label, record in zip(batch["label"], records, strict=False):
            h, w = record["label"].shape
            label[:h, :w] = record["label"]
        return batch, records, grid


def options_of(config: ConfigDict) -> dict[str, Any]:
    """Returns the options of an `Evaluator` that a run's config has: metrics, batch_size and loss."""
    c = config.eval
    return {
        "metrics": check_metrics(tuple(c.metrics), c.metric_options.to_dict()),
        "batch_size": c.batch_size,
        "threads": config.data.threads,
        "strict": c.strict,
        "tile": c.tile,
        "overlap": c.overlap,
        "blend": c.blend,
        "tta": c.tta,
        "loss": _make_loss(config.loss.terms.to_dict(), config.loss.options.to_dict()),
    }


def _make_loss(terms: Mapping[str, Any], options: Mapping[str, Any]) -> Loss:
    """The terms of a run's loss on the logits alone: the other heads only help training."""

    def loss(
        logits: Float[Array, "b h w c"],
        labels: Int[Array, "b h w"],
        where: Bool[Array, "b h w"],
        step: Int[Array, ""],
    ) -> Float[Array, ""]:
        arguments = {"terms": terms, "heads": {"logits": 1.0}, "options": options, "step": step}
        return losses.weighted_sum({"logits": logits}, labels, where, **arguments)[0]

    return loss


def _crop_samples(
    predictions: Integer[np.ndarray, "b h w"], records: list[dict[str, Any]], bands: Bands
) -> list[dict[str, Any]]:
    """The records with their predictions, and images as people see them."""
    samples = []
    for prediction, record in zip(predictions, records, strict=False):
        h, w = record["label"].shape
        samples.append({**record, "image": bands.to_show(record["image"]), "prediction": prediction[:h, :w]})
    return samples
