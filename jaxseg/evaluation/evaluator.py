"""Evaluation: every image of a split at its native size, scored exactly over the whole split.

Images are padded at the right and bottom to a multiple of the model's bucket, so that few sizes are compiled; padding
is not scored. Images of one padded size are evaluated together. Metrics are counted on the device,
int32 per batch and int64 on the host; with several processes each reads its share and the counts are merged.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int, UInt8
from ml_collections import ConfigDict

from jaxseg import losses, metrics
from jaxseg.checks import UserError, listing
from jaxseg.data import Dataset, pipeline
from jaxseg.experiment.build import check_metrics
from jaxseg.experiment.devices import batched, local_mesh, make_mesh, replicate, replicated
from jaxseg.inference.calibration import Calibration
from jaxseg.inference.predict import check_channels, pad_images, padded_size, predict_logits
from jaxseg.inference.refine import Refiner
from jaxseg.metrics import Metric, create_metrics
from jaxseg.trained import TrainedModel

Loss = Callable[
    [Float[Array, "b h w c"], Int[Array, "b h w"], Bool[Array, "b h w"], Int[Array, ""]], Float[Array, ""]
]  # (logits, labels, where, step) -> mean over the valid pixels
Padded = tuple[dict[str, np.ndarray], list[dict[str, Any]]]  # a batch {"image", "label", "size"}, and its records
_CALIBRATED = "calibrated "  # before the name of a metric whose probabilities were calibrated
_MERGED = 64  # batches whose counts wait to be merged


@dataclasses.dataclass
class Evaluation:
    """The result on a split."""

    matrix: np.ndarray  # int64[C, C], rows are labels
    loss: float  # mean over the valid pixels; nan where there is none
    samples: list[dict[str, Any]]  # {"image", "label", "prediction", "name"} of some images
    results: dict[str, dict[str, Any]]  # of every metric
    calibrated: dict[str, dict[str, Any]]  # of those that need probabilities, after the calibration, if there is one

    @property
    def scores(self) -> dict[str, Any]:
        """The scores of all metrics by their keys; those of calibrated probabilities under "calibrated"."""
        flat = {key: value for result in self.results.values() for key, value in result.items()}
        if self.calibrated:
            flat["calibrated"] = {key: value for result in self.calibrated.values() for key, value in result.items()}
        return flat

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
      loss: (logits, labels, where, step) -> its mean over the valid pixels; None is no loss.
      calibration: the metrics that need probabilities are also computed after it.
      refine: scores are those of the refined predictions; so is the loss.
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
    ):
        check_channels(trained)
        self.trained, self.dataset = trained, dataset
        self.mesh = local_mesh(make_mesh() if mesh is None else mesh)
        self.batch_size = -(-batch_size // self.mesh.size) * self.mesh.size
        self.metrics = dict(create_metrics(("confusion",), {}) if metrics is None else metrics)
        self.calibration = calibration
        check_classes(trained, dataset)
        self._step = _make_eval_step(trained, dataset.ignore, self.mesh, self.metrics, loss, calibration, refine)

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
        total, count, samples, tallies = 0.0, 0, [], {}
        variables = self.variables if variables is None else variables
        own = len(range(jax.process_index(), len(self.dataset.splits[split]), jax.process_count()))
        chosen = set(np.linspace(0, own - 1, min(images, own)).round().astype(int).tolist())
        for batch, records in self.batches(split, progress):
            prediction, found, loss = self._step(variables, jax.device_put(batch, batched(self.mesh)), np.int32(step))
            for name, tally in found.items():
                rows = {key: np.asarray(value)[: len(records)] for key, value in tally.images.items()}
                waiting = tallies.setdefault(name, [])
                waiting.append(metrics.Tally(tally.sums, rows))
                if len(waiting) == _MERGED:
                    waiting[:] = [metrics.merge(waiting)]
            pixels = int(np.asarray(found["confusion"].sums["matrix"], np.int64).sum())
            total, count = total + float(loss) * pixels, count + pixels
            if chosen & {record["index"] for record in records}:
                samples += _crop_samples(np.asarray(prediction), records)
        samples = sorted((s for s in samples if s["index"] in chosen), key=lambda sample: sample["index"])
        sums = metrics.merge_processes(metrics.Tally({"loss": np.float64(total), "pixels": np.int64(count)}, {})).sums
        whole = {name: metrics.merge_processes(metrics.merge(tallies[name])) for name in sorted(tallies)}
        results = {name: metric.result(whole[name]) for name, metric in self.metrics.items()}
        calibrated = {
            name: self.metrics[name].result(whole[_CALIBRATED + name])
            for name in self.metrics
            if _CALIBRATED + name in whole
        }
        loss = float(sums["loss"]) / max(int(sums["pixels"]), 1)
        return Evaluation(whole["confusion"].sums["matrix"], loss, samples, results, calibrated)

    @cached_property
    def variables(self) -> dict[str, Any]:
        """The trained model's, on the devices of this process."""
        return replicate(self.trained.variables, self.mesh)

    def batches(self, split: str, progress: Callable[[Iterator], Iterator] = iter) -> Iterator[Padded]:
        """Yields (padded batch, its records): images of one padded size together, short batches filled up."""
        shard = (jax.process_index(), jax.process_count())
        records = pipeline.eval_records(self.dataset.splits[split], shard=shard)
        waiting: dict[tuple[int, int], list] = {}
        for index, record in enumerate(progress(records)):
            size = padded_size(*record["label"].shape, self.trained.bucket)
            group = waiting.setdefault(size, [])
            group.append({**record, "index": index})
            if len(group) == self.batch_size:
                yield self._pad(size, waiting.pop(size))
        for size in sorted(waiting):
            yield self._pad(size, waiting[size])

    def _pad(self, size: tuple[int, int], records: list[dict[str, Any]]) -> Padded:
        """Pads short batches with gray images without valid pixels, so that no other size is compiled."""
        missing = self.batch_size - len(records)
        blank = np.zeros((0, 0, 3), np.uint8)
        image = pad_images([r["image"] for r in records] + [blank] * missing, size, self.trained.mean)
        label = np.full(image.shape[:3], self.dataset.ignore, np.uint8)
        sizes = np.zeros((len(image), 2), np.int32)  # of the images themselves
        for i, record in enumerate(records):
            sizes[i] = h, w = record["label"].shape
            label[i, :h, :w] = record["label"]
        return {"image": image, "label": label, "size": sizes}, records


def check_classes(trained: TrainedModel, dataset: Dataset) -> None:
    """Raises a `UserError` where a data set has another number of classes than the model, or another order of them.

    Other names are a warning: they may mean the same. The names that a converted model got for want of any say nothing.
    """
    if dataset.num_classes not in (trained.model.num_classes, len(trained.classes)):
        raise UserError(
            f"The data set '{dataset.name}' has {dataset.num_classes} classes, the model {len(trained.classes)}:"
            f" {', '.join(trained.classes[:8])}{', …' if len(trained.classes) > 8 else ''}. Name the data that it was"
            " trained for."
        )
    ours, theirs = trained.classes[-dataset.num_classes :], tuple(dataset.classes)
    if ours == theirs or all(name == f"class {i}" for i, name in enumerate(ours)):
        return
    pairs = [
        f"{i} is '{b}' but '{a}' in the model" for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b
    ]
    told = f"The classes of the data set '{dataset.name}' are not the model's: {listing(pairs, 4)}."
    if sorted(ours) == sorted(theirs):
        raise UserError(f"{told} Their order differs, so every score would be wrong. Give the data the model's order.")
    warnings.warn(f"{told} They are scored as they are numbered.")


def options_of(config: ConfigDict) -> dict[str, Any]:
    """Returns the options of an `Evaluator` that a run's config has: metrics, batch_size and loss."""
    c = config.eval
    return {
        "metrics": check_metrics(tuple(c.metrics), c.metric_options.to_dict()),
        "batch_size": c.batch_size,
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


def _make_eval_step(
    trained: TrainedModel,
    ignore: int,
    mesh: Mesh,
    chosen: Mapping[str, Metric],
    loss_of: Loss | None,
    calibration: Calibration | None,
    refine: Refiner | None,
) -> Callable[..., tuple[Array, dict[str, metrics.Tally], Array]]:
    mean, std = trained.mean, trained.std
    apply = partial(trained.model.apply, train=False)
    if refine:  # each device its own images
        refine = jax.shard_map(refine, mesh=mesh, in_specs=(P("data"),) * 3, out_specs=P("data"), check_vma=False)

    def eval_step(
        variables: Mapping[str, Any], batch: Mapping[str, Array], step: Int[Array, ""]
    ) -> tuple[UInt8[Array, "b h w"], dict[str, metrics.Tally], Float[Array, ""]]:
        logits = predict_logits(apply, variables, batch["image"], batch["size"], mean=mean, std=std, refine=refine)
        where = batch["label"] != ignore
        label = jnp.where(where, batch["label"], 0).astype(jnp.int32)
        prediction = jnp.argmax(logits, axis=-1)
        given = {"predictions": lambda: prediction, "probabilities": lambda: jax.nn.softmax(logits)}
        counting = dict(where=where, num_classes=logits.shape[-1])
        tallies = {name: metric.update(given[metric.needs](), label, **counting) for name, metric in chosen.items()}
        if calibration:
            p = jax.nn.softmax(calibration(logits))
            tallies |= {
                _CALIBRATED + name: metric.update(p, label, **counting)
                for name, metric in chosen.items()
                if metric.needs == "probabilities"
            }
        own = logits[..., -trained.model.num_classes :]  # without the background that a model of one class lacks
        loss = loss_of(own, label, where, step) if loss_of else jnp.float32(jnp.nan)
        return prediction.astype(jnp.uint8), tallies, loss

    whole, split = replicated(mesh), batched(mesh)
    return jax.jit(eval_step, in_shardings=(whole, split, whole), out_shardings=(split, whole, whole))


def _crop_samples(predictions: UInt8[np.ndarray, "b h w"], records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    samples = []
    for prediction, record in zip(predictions, records, strict=False):
        h, w = record["label"].shape
        samples.append({**record, "prediction": prediction[:h, :w]})
    return samples
