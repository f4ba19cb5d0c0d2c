"""python -m jaxseg tune-crf: searches the CRF's settings on a split and keeps the best in WORKDIR/crf.json."""

import argparse
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.checks import UserError
from jaxseg.inference.refine import FILE, picture_mask

# What a trial may multiply a setting of the config by, drawn log-uniformly.
WIDE = {
    "spatial_weight": (1 / 8, 2),
    "spatial_sigma": (1 / 3, 3),
    "bilateral_weight": (1 / 8, 2),
    "bilateral_sigma": (1 / 4, 2),
    "colour_sigma": (1 / 4, 2),
}
NARROW = (1 / 1.5, 1.5)  # the same around the best trial so far


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to its parser."""
    parser.add_argument("--workdir", required=True, help="folder that train.py wrote")
    parser.add_argument("--split", help="of the data set; the config's eval_split by default")
    parser.add_argument("--checkpoint", default="best", help="best (by validation mIoU), latest or a step")
    parser.add_argument("--root", help="where the data is now, if it moved since training")
    parser.add_argument("--pictures", type=int, default=20, help="how many of the split, evenly spread; 0 is all")
    parser.add_argument("--trials", type=int, default=24, help="how many settings; the first is the config's own")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")


def run(args: argparse.Namespace) -> int:
    """Prints a row a trial, best first, and writes WORKDIR/crf.json."""
    from jaxseg.experiment import build as experiments
    from jaxseg.experiment.log import progress_bar
    from jaxseg.experiment.restore import load_for_inference

    if args.trials < 1 or args.pictures < 0:
        raise UserError(f"--trials must be at least 1 and --pictures 0, got {args.trials} and {args.pictures}.")
    restored = load_for_inference(args.workdir, args.checkpoint)
    config = restored.config
    experiments.enable_compilation_cache(config.train.compilation_cache)
    if args.root is not None:
        config.data.root = args.root
    split = args.split or config.data.eval_split
    experiment = experiments.build(config, splits=(split,))
    batches, count = _predict(experiment, restored.variables, split, args.pictures, progress_bar)
    settings = dict(config.eval.crf)
    score = _make_score(settings["iterations"], batches, experiment.dataset)
    without = score(None)
    trials: list[tuple[float, dict[str, float]]] = []
    rows = search({k: settings[k] for k in WIDE}, trials, count=args.trials, seed=args.seed)
    for parameters in progress_bar(rows, total=args.trials, desc=f"tune-crf {split}"):
        trials.append((score(parameters), parameters))
    trials.sort(key=lambda trial: -trial[0])
    print(format_trials(without, trials))
    best, parameters = trials[0]
    found = {"parameters": {**parameters, "iterations": settings["iterations"]}, "miou": best, "miou_without": without}
    found |= {"split": split, "pictures": count, "checkpoint": restored.step}
    path = Path(args.workdir) / FILE
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"mIoU {without:.4f} without, {best:.4f} with the best CRF, on {count} pictures of {split} -> {path}")
    if best <= without:
        print("No setting helped: predict without --crf, or tune with more --trials.")
    return 0


def search(
    start: Mapping[str, float], trials: Sequence[tuple[float, Mapping[str, float]]], *, count: int, seed: int
) -> Iterator[dict[str, float]]:
    """Yields `count` settings: the start, then wide of it for half of the trials, then close to the best so far.

    Args:
      start: a value a setting.
      trials: (score, settings) of those tried, which the caller adds to as it goes on.
      count: how many to yield.
      seed: of the draws.

    >>> [round(s["colour_sigma"]) for s in search({"colour_sigma": 13.0}, [], count=2, seed=0)]
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

    >>> print(format_trials(0.5, [(0.6, {"colour_sigma": 13.0})]))
      mIoU    gain  colour_sigma
    0.6000 +0.1000            13
    """
    names = list(trials[0][1])
    lines = ["  mIoU    gain  " + "  ".join(names)]
    for miou, parameters in trials:
        values = "  ".join(f"{parameters[name]:{len(name)}.4g}" for name in names)
        lines.append(f"{miou:6.4f} {miou - without:+7.4f}  {values}")
    return "\n".join(lines)


def _predict(experiment, variables, split, count, bar):
    """Returns [(logits, images, sizes, labels)] in batches, on the host, and how many pictures they hold."""
    import jax

    from jaxseg.evaluation.evaluator import Evaluator
    from jaxseg.experiment.devices import make_mesh
    from jaxseg.inference.predict import predict_logits

    source = experiment.dataset.splits[split]
    count = min(count or len(source), len(source))
    records = [source[int(i)] for i in np.linspace(0, len(source) - 1, count).round()]
    dataset = dataclasses.replace(experiment.dataset, splits={split: records})
    evaluator = Evaluator(dataclasses.replace(experiment, dataset=dataset), make_mesh(1))

    apply = partial(experiment.model.apply, train=False)
    predict = jax.jit(partial(predict_logits, apply, mean=experiment.mean, std=experiment.std))
    batches = []
    for batch, _ in evaluator.batches(split, lambda records: bar(records, total=count, desc=f"predict {split}")):
        logits = np.asarray(predict(variables, batch["image"]))
        batches.append((logits, batch["image"], batch["size"], batch["label"]))
    return batches, count


def _make_score(iterations: int, batches: list, dataset: Any):
    """Returns a function from settings, or None for no CRF, to mIoU; one program for all of them."""
    import jax
    import jax.numpy as jnp

    from jaxseg import metrics
    from jaxseg.ops.meanfield import dense_crf

    def count(logits, label):
        where = label != dataset.ignore
        label = jnp.where(where, label, 0).astype(jnp.int32)
        prediction = jnp.argmax(logits, -1)
        return metrics.confusion_matrix(prediction, label, num_classes=logits.shape[-1], where=where)

    @jax.jit
    def refined(parameters, logits, images, sizes, label):
        where = picture_mask(sizes, logits.shape)
        return count(dense_crf(logits, images, where=where, iterations=iterations, **parameters), label)

    plain = jax.jit(lambda parameters, logits, images, sizes, label: count(logits, label))

    def score(parameters):
        step = plain if parameters is None else refined
        matrix = sum(np.asarray(step(parameters, *batch), np.int64) for batch in batches)
        return float(metrics.scores(matrix)["miou"])

    return score
