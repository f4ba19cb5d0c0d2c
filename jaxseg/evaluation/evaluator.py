"""Evaluation: every picture of a split at its native size, scored exactly over the whole split.

Pictures are padded at the right and bottom to a multiple of `config.eval.bucket`, so that few sizes are compiled;
the padding does not count. Pictures of one padded size are evaluated together. Metrics are counted on the device,
int32 a batch and int64 on the host; with several processes each reads its share and the counts are merged.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxseg import losses, metrics
from jaxseg.data import pipeline
from jaxseg.experiment.build import Experiment, check_metrics
from jaxseg.experiment.devices import batched, local_mesh, replicated
from jaxseg.inference.calibration import Calibration
from jaxseg.inference.predict import pad_images, padded_size, predict_logits
from jaxseg.inference.refine import Refiner

_CALIBRATED = "calibrated "  # before the name of a metric whose probabilities were calibrated
_MERGED = 64  # batches whose counts wait to be merged


@dataclasses.dataclass
class Evaluation:
    """What was found on a split."""

    matrix: np.ndarray  # int64[C, C], rows are labels
    loss: float  # mean over the pixels that count
    samples: list[dict[str, Any]]  # {"image", "label", "prediction", "name"} of some pictures
    results: dict[str, dict[str, Any]]  # of every metric of config.eval.metrics
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
    """Evaluates variables of one experiment's model; its compiled programs are kept between calls.

    Args:
      experiment: its config says which metrics.
      mesh: of which the devices of this process are used.
      calibration: the metrics that need probabilities are also computed after it.
      refine: scores are those of the refined predictions; so is the loss.
    """

    def __init__(
        self,
        experiment: Experiment,
        mesh: Mesh,
        *,
        calibration: Calibration | None = None,
        refine: Refiner | None = None,
    ):
        self.experiment = experiment
        self.mesh = local_mesh(mesh)
        size = self.mesh.size
        self.batch_size = -(-experiment.config.eval.batch_size // size) * size
        c = experiment.config.eval
        self.metrics = check_metrics(tuple(c.metrics), c.metric_options.to_dict())
        self.calibration = calibration
        self._step = _make_eval_step(experiment, self.mesh, self.metrics, calibration, refine)

    def __call__(
        self,
        variables: dict[str, Any],
        split: str,
        *,
        pictures: int = 0,
        step: int = 0,
        progress: Callable[[Iterator], Iterator] = iter,
    ) -> Evaluation:
        """Returns the scores of `variables` on `split`.

        Args:
          variables: {"params", "batch_stats"}, arrays of this process.
          split: a key of the data set's splits.
          pictures: how many samples to return, spread evenly over the split (neighbours are often alike).
          step: of training, for weights of the loss that change over the steps.
          progress: wraps the iterator of records, to draw a progress bar.
        """
        total, count, samples, tallies = 0.0, 0, [], {}
        own = len(range(jax.process_index(), len(self.experiment.dataset.splits[split]), jax.process_count()))
        chosen = set(np.linspace(0, own - 1, min(pictures, own)).round().astype(int).tolist())
        for batch, records in self.batches(split, progress):
            prediction, found, loss = self._step(variables, jax.device_put(batch, batched(self.mesh)), np.int32(step))
            for name, tally in found.items():
                rows = {key: np.asarray(value)[: len(records)] for key, value in tally.pictures.items()}
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

    def batches(self, split: str, progress: Callable[[Iterator], Iterator] = iter) -> Iterator:
        """Yields (padded batch, its records): pictures of one padded size together, short batches filled up."""
        dataset, bucket = self.experiment.dataset, self.experiment.config.eval.bucket
        shard = (jax.process_index(), jax.process_count())
        records = pipeline.eval_records(dataset.splits[split], shard=shard)
        waiting: dict[tuple[int, int], list] = {}
        for index, record in enumerate(progress(records)):
            size = padded_size(*record["label"].shape, bucket)
            group = waiting.setdefault(size, [])
            group.append({**record, "index": index})
            if len(group) == self.batch_size:
                yield self._pad(size, waiting.pop(size))
        for size in sorted(waiting):
            yield self._pad(size, waiting[size])

    def _pad(self, size, records):
        """Fills up short batches with grey pictures that are ignored whole, so that no other size is compiled."""
        missing = self.batch_size - len(records)
        blank = np.zeros((0, 0, 3), np.uint8)
        image = pad_images([r["image"] for r in records] + [blank] * missing, size, self.experiment.mean)
        label = np.full(image.shape[:3], self.experiment.dataset.ignore, np.uint8)
        sizes = np.zeros((len(image), 2), np.int32)  # of the pictures themselves
        for i, record in enumerate(records):
            sizes[i] = h, w = record["label"].shape
            label[i, :h, :w] = record["label"]
        return {"image": image, "label": label, "size": sizes}, records


def _make_eval_step(experiment, mesh, chosen, calibration, refine):
    ignore, mean, std = experiment.dataset.ignore, experiment.mean, experiment.std
    c = experiment.config.loss
    terms, options = c.terms.to_dict(), c.options.to_dict()
    apply = partial(experiment.model.apply, train=False)
    if refine:  # each device its own pictures
        refine = jax.shard_map(refine, mesh=mesh, in_specs=(P("data"),) * 3, out_specs=P("data"), check_vma=False)

    def eval_step(variables, batch, step):
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
        loss, _ = losses.weighted_sum(
            {"logits": logits}, label, where, terms=terms, heads={"logits": 1.0}, options=options, step=step
        )
        return prediction.astype(jnp.uint8), tallies, loss

    whole, split = replicated(mesh), batched(mesh)
    return jax.jit(eval_step, in_shardings=(whole, split, whole), out_shardings=(split, whole, whole))


def _crop_samples(predictions, records):
    samples = []
    for prediction, record in zip(predictions, records, strict=False):
        h, w = record["label"].shape
        samples.append({**record, "prediction": prediction[:h, :w]})
    return samples
