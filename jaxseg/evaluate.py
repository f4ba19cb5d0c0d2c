"""Evaluation: every picture of a split at its native size, scored exactly over the whole split.

Pictures are padded at the right and bottom to a multiple of `config.eval.bucket`, so that few sizes are compiled;
the padding does not count. Pictures of one padded size are evaluated together. Matrices are int32 a batch and int64
on the host; with several processes each reads its share and the matrices are added.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxseg import losses, metrics
from jaxseg.data import pipeline
from jaxseg.inference.predict import pad_images, padded_size, predict_logits
from jaxseg.training.experiment import Experiment
from jaxseg.training.shard import batched, local_mesh, replicated


@dataclasses.dataclass
class Evaluation:
    """What was found on a split."""

    matrix: np.ndarray  # int64[C, C], rows are labels
    loss: float  # mean over the pixels that count
    samples: list[dict[str, Any]]  # {"image", "label", "prediction", "name"} of some pictures

    @property
    def scores(self) -> dict[str, Any]:
        """The numbers of `metrics.scores`."""
        return metrics.scores(self.matrix)


class Evaluator:
    """Evaluates variables of one experiment's model; its compiled programs are kept between calls."""

    def __init__(self, experiment: Experiment, mesh: Mesh):
        self.experiment = experiment
        self.mesh = local_mesh(mesh)
        size = self.mesh.size
        self.batch_size = -(-experiment.config.eval.batch_size // size) * size
        self._step = _make_eval_step(experiment, self.mesh)

    def __call__(
        self,
        variables: dict[str, Any],
        split: str,
        *,
        pictures: int = 0,
        progress: Callable[[Iterator], Iterator] = iter,
    ) -> Evaluation:
        """Returns the scores of `variables` on `split`.

        Args:
          variables: {"params", "batch_stats"}, arrays of this process.
          split: a key of the data set's splits.
          pictures: how many samples to return, spread evenly over the split (neighbours are often alike).
          progress: wraps the iterator of records, to draw a progress bar.
        """
        classes = self.experiment.dataset.num_classes
        matrix = np.zeros((classes, classes), np.int64)
        total, count, samples = 0.0, 0, []
        own = len(range(jax.process_index(), len(self.experiment.dataset.splits[split]), jax.process_count()))
        chosen = set(np.linspace(0, own - 1, min(pictures, own)).round().astype(int).tolist())
        for batch, records in self._batches(split, progress):
            prediction, part, loss = self._step(variables, jax.device_put(batch, batched(self.mesh)))
            part = np.asarray(part, np.int64)
            pixels = int(part.sum())
            matrix += part
            total, count = total + float(loss) * pixels, count + pixels
            if chosen & {record["index"] for record in records}:
                samples += _crop_samples(np.asarray(prediction), records)
        matrix, total, count = _sum_processes(matrix, total, count)
        samples = sorted((s for s in samples if s["index"] in chosen), key=lambda sample: sample["index"])
        return Evaluation(matrix, total / max(count, 1), samples)

    def _batches(self, split, progress):
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
        for place, record in zip(label, records, strict=False):
            h, w = record["label"].shape
            place[:h, :w] = record["label"]
        return {"image": image, "label": label}, records


def _make_eval_step(experiment, mesh):
    ignore, mean, std = experiment.dataset.ignore, experiment.mean, experiment.std
    c = experiment.config.loss
    terms, options = c.terms.to_dict(), c.options.to_dict()
    apply = partial(experiment.model.apply, train=False)

    def eval_step(variables, batch):
        logits = predict_logits(apply, variables, batch["image"], mean=mean, std=std)
        where = batch["label"] != ignore
        label = jnp.where(where, batch["label"], 0).astype(jnp.int32)
        prediction = jnp.argmax(logits, axis=-1)
        matrix = metrics.confusion_matrix(prediction, label, num_classes=logits.shape[-1], where=where)
        loss, _ = losses.weighted_sum(
            {"logits": logits}, label, where, terms=terms, heads={"logits": 1.0}, options=options
        )
        return prediction.astype(jnp.uint8), matrix, loss

    whole, split = replicated(mesh), batched(mesh)
    return jax.jit(eval_step, in_shardings=(whole, split), out_shardings=(split, whole, whole))


def _crop_samples(predictions, records):
    samples = []
    for prediction, record in zip(predictions, records, strict=False):
        h, w = record["label"].shape
        samples.append({**record, "prediction": prediction[:h, :w]})
    return samples


def _sum_processes(matrix, total, count):
    if jax.process_count() == 1:
        return matrix, total, count
    from jax.experimental import multihost_utils

    # int64 does not survive a trip through the device without x64, its two halves do.
    flat = np.concatenate([matrix.ravel(), [count]])
    halves = np.stack([flat >> 31, flat & (2**31 - 1)]).astype(np.int32)
    high, low = np.asarray(multihost_utils.process_allgather(halves), np.int64).sum(0)
    flat = (high << 31) + low
    total = float(np.sum(multihost_utils.process_allgather(np.float32(total))))
    return flat[:-1].reshape(matrix.shape), total, int(flat[-1])


def evaluate_workdir(
    workdir: str | Path,
    split: str | None = None,
    checkpoint: str = "best",
    *,
    root: str | None = None,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Scores a checkpoint of a workdir: prints the table, writes scores.json, confusion.png and predictions.png.

    Everything is rebuilt from the workdir's config.json.

    Args:
      workdir: the folder that train.py wrote.
      split: of the data set; None is config.data.eval_split.
      checkpoint: "best", "latest" or a step.
      root: where the data is now, if not at config.data.root.
      out: the folder to write to; None is WORKDIR/eval/SPLIT.
    """
    from jaxseg import visualize
    from jaxseg.training import experiment as experiments
    from jaxseg.training.log import progress_bar
    from jaxseg.training.restore import load_for_inference
    from jaxseg.training.shard import make_mesh, replicate

    restored = load_for_inference(workdir, checkpoint)
    config = restored.config
    experiments.enable_compilation_cache(config.train.compilation_cache)
    if root is not None:
        config.data.root = root
    split = split or config.data.eval_split
    experiment = experiments.build(config, splits=(split,))
    evaluator = Evaluator(experiment, make_mesh(config.train.devices))
    count = len(experiment.dataset.splits[split])
    evaluation = evaluator(
        replicate(restored.variables, evaluator.mesh),
        split,
        pictures=config.log.pictures,
        progress=lambda records: progress_bar(records, total=count, desc=f"eval {split}"),
    )
    scores = {"split": split, "checkpoint": restored.step, "pictures": count, "loss": evaluation.loss}
    scores |= {"classes": list(restored.classes), **evaluation.scores}
    out = Path(out) if out else Path(workdir) / "eval" / split
    out.mkdir(parents=True, exist_ok=True)
    (out / "scores.json").write_text(json.dumps(_plain(scores), indent=1) + "\n")
    visualize.confusion_figure(evaluation.matrix, restored.classes, out / "confusion.png")
    visualize.prediction_grid(
        evaluation.samples,
        palette=restored.palette,
        classes=restored.classes,
        path=out / "predictions.png",
        ignore=restored.ignore,
    )
    print(metrics.format_table(evaluation.scores, restored.classes))
    print(f"checkpoint {restored.step}, split {split}, {count} pictures, loss {evaluation.loss:.4f} -> {out}")
    return scores


def _plain(value):
    """Numbers as JSON has them: nan, the score of an absent class, is null."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
