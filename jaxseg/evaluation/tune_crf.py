"""The CRF's settings that score best on a split: what `jaxseg tune-crf` searches with."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from jaxseg.config import default_config
from jaxseg.data import Dataset
from jaxseg.inference.refine import image_mask
from jaxseg.trained import TrainedModel

# What a trial may multiply a setting of the config by, drawn log-uniformly.
WIDE = {
    "spatial_weight": (1 / 8, 2),
    "spatial_sigma": (1 / 3, 3),
    "bilateral_weight": (1 / 8, 2),
    "bilateral_sigma": (1 / 4, 2),
    "color_sigma": (1 / 4, 2),
}
NARROW = (1 / 1.5, 1.5)  # the same around the best trial so far


Trials = list[tuple[float, dict[str, float]]]  # (mIoU, settings), the best first


def tune_crf(
    trained: TrainedModel,
    dataset: Dataset,
    split: str,
    *,
    images: int = 20,
    trials: int = 24,
    seed: int = 0,
    progress: Callable[..., Iterable] = lambda iterable, **_: iterable,
) -> tuple[dict[str, Any], Trials]:
    """Searches the CRF's settings that score best on a split.

    Args:
      trained: the model; the search starts at its run's config.eval.crf, or at the defaults.
      dataset: with the model's classes.
      split: a key of its splits.
      images: how many of the split, evenly spread; 0 is all.
      trials: how many settings; the first is where the search starts.
      seed: of the draws.
      progress: wraps what is iterated over, to draw a progress bar; called with tqdm's `total` and `desc` too.

    Returns:
      What crf.json holds, {"parameters", "miou", "miou_without", "split", "images", "checkpoint"}, and the trials.
    """
    settings = dict((trained.config or default_config()).eval.crf)
    batches, count = _predict(trained, dataset, split, images, progress)
    score = _make_score(settings["iterations"], batches, trained, dataset)
    done: Trials = []
    rows = search({k: settings[k] for k in WIDE}, done, count=trials, seed=seed)
    for parameters in progress(rows, total=trials, desc=f"tune-crf {split}"):
        done.append((score(parameters), parameters))
    done.sort(key=lambda trial: -trial[0])
    best, parameters = done[0]
    found = {"parameters": {**parameters, "iterations": settings["iterations"]}, "miou": best}
    found |= {"miou_without": score(None), "split": split, "images": count, "checkpoint": trained.step}
    return found, done


def search(
    start: Mapping[str, float], trials: Sequence[tuple[float, Mapping[str, float]]], *, count: int, seed: int
) -> Iterator[dict[str, float]]:
    """Yields `count` settings: the start, then far from it for half of the trials, then close to the best so far.

    Args:
      start: one value per setting.
      trials: (score, settings) of those tried, which the caller adds to as it goes on.
      count: how many to yield.
      seed: of the draws.

    >>> [round(s["color_sigma"]) for s in search({"color_sigma": 13.0}, [], count=2, seed=0)]
    [13, 6]
    """
    random = np.random.default_rng(seed)
    for n in range(count):
        wide = n <= count // 2 or not trials
        base = start if wide else max(trials, key=lambda trial: trial[0])[1]
        factors = {key: np.exp(random.uniform(*np.log(WIDE[key] if wide else NARROW))) for key in start}
        yield {key: float(f"{base[key] * (factors[key] if n else 1):.4g}") for key in start}


def format_trials(without: float, trials: Sequence[tuple[float, Mapping[str, float]]]) -> str:
    """Returns a table of the trials, in their order.

    Args:
      without: mIoU of the network alone.
      trials: (mIoU, settings).

    >>> print(format_trials(0.5, [(0.6, {"color_sigma": 13.0})]))
      mIoU    gain  color_sigma
    0.6000 +0.1000            13
    """
    names = list(trials[0][1])
    lines = ["  mIoU    gain  " + "  ".join(names)]
    for miou, parameters in trials:
        values = "  ".join(f"{parameters[name]:{len(name)}.4g}" for name in names)
        lines.append(f"{miou:6.4f} {miou - without:+7.4f}  {values}")
    return "\n".join(lines)


def _predict(
    trained: TrainedModel, dataset: Dataset, split: str, count: int, progress: Callable[..., Iterable]
) -> tuple[list[dict[str, np.ndarray]], int]:
    """Returns [{"logits", "image", "size", "native", "label"}] on the host, and how many images they hold."""
    import jax

    from jaxseg.evaluation.evaluator import Evaluator
    from jaxseg.evaluation.readable import Readable
    from jaxseg.experiment.devices import make_mesh
    from jaxseg.inference.batches import shown_bands
    from jaxseg.inference.logits import predict_logits

    source = dataset.splits[split]
    count = min(count or len(source), len(source))
    records = [Readable(source)[int(i)] for i in np.linspace(0, len(source) - 1, count).round()]
    dataset = dataclasses.replace(dataset, splits={split: records})
    batch_size = (trained.config or default_config()).eval.batch_size
    evaluator = Evaluator(trained, dataset, make_mesh(1), batch_size=batch_size)

    seen, apply = trained.preprocessing, partial(trained.model.apply, train=False)
    predict = jax.jit(partial(predict_logits, apply, preprocessing=seen))
    batches = []
    told = evaluator.batches(split, lambda records: progress(records, total=count, desc=f"predict {split}"))
    for batch, _, _ in told:
        logits = np.asarray(predict(trained.variables, batch["image"]))
        batches.append({**batch, "logits": logits, "image": np.asarray(shown_bands(batch["image"], seen))})
    return batches, sum("unreadable" not in record for record in records)


def _make_score(
    iterations: int, batches: list, trained: TrainedModel, dataset: Dataset
) -> Callable[[Mapping[str, float] | None], float]:
    """Returns a function from settings, or None for no CRF, to mIoU; one program for all of them."""
    import jax
    import jax.numpy as jnp

    from jaxseg import metrics
    from jaxseg.inference.logits import exclusive_logits, labels_of
    from jaxseg.ops.meanfield import dense_crf
    from jaxseg.ops.resize import resize_within

    def count(logits: Float[Array, "b h w c"], batch: Mapping[str, Array]) -> Int[Array, "c c"]:
        label = batch["label"]
        if trained.preprocessing.resize:
            logits = resize_within(logits, batch["size"], batch["native"], label.shape[1:])
        where = label != dataset.ignore
        label = jnp.where(where, label, 0).astype(jnp.int32)
        prediction = labels_of(logits, trained)
        return metrics.confusion_matrix(prediction, label, num_classes=logits.shape[-1], where=where)

    @jax.jit
    def refined(parameters: Mapping[str, Float[Array, ""]], batch: Mapping[str, Array]) -> Int[Array, "c c"]:
        logits = exclusive_logits(batch["logits"], trained)
        where = image_mask(batch["size"], logits.shape)
        return count(dense_crf(logits, batch["image"], where=where, iterations=iterations, **parameters), batch)

    plain = jax.jit(lambda parameters, batch: count(batch["logits"], batch))

    def score(parameters: Mapping[str, float] | None) -> float:
        step = plain if parameters is None else refined
        matrix = sum(np.asarray(step(parameters, batch), np.int64) for batch in batches)
        return float(metrics.scores(matrix)["miou"])

    return score
