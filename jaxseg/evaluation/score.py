"""What eval.py does: a checkpoint of a workdir, scored on a split, with its pictures, and calibrated if asked for."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.checks import UserError, lookup
from jaxseg.evaluation.calibrate import calibrate_split
from jaxseg.evaluation.evaluator import Evaluator
from jaxseg.inference.calibration import KINDS, load_calibration, save_calibration
from jaxseg.inference.refine import load_refiner


def evaluate_workdir(
    workdir: str | Path,
    split: str | None = None,
    checkpoint: str = "best",
    *,
    root: str | None = None,
    out: str | Path | None = None,
    metric_names: Sequence[str] | None = None,
    calibrate: str | None = None,
    refine: str | None = None,
) -> dict[str, Any]:
    """Scores a checkpoint of a workdir: prints the table, writes scores.json, confusion.png and predictions.png.

    With the metric "calibration" also reliability.png, with "spread" spread.png. Everything is rebuilt from the
    workdir's config.json.

    Args:
      workdir: the folder that train.py wrote.
      split: of the data set; None is config.data.eval_split.
      checkpoint: "best", "latest" or a step.
      root: where the data is now, if not at config.data.root.
      out: the folder to write to; None is WORKDIR/eval/SPLIT, or WORKDIR/eval/SPLIT-crf for refined predictions.
      metric_names: keys of `METRICS`; None is config.eval.metrics.
      calibrate: "temperature" or "vector": fit a calibration to the split first and write WORKDIR/calibration.json.
      refine: "crf" or "guided": score the predictions after it; not calibrated.
    """
    from jaxseg.experiment import build as experiments
    from jaxseg.experiment.devices import local_mesh, make_mesh, replicate
    from jaxseg.experiment.log import progress_bar
    from jaxseg.experiment.restore import load_for_inference

    if calibrate and refine:
        raise UserError("--calibrate fits the model's own probabilities: leave out --crf and --refine.")
    restored = load_for_inference(workdir, checkpoint)
    config = restored.config
    experiments.enable_compilation_cache(config.train.compilation_cache)
    if root is not None:
        config.data.root = root
    _choose_metrics(config.eval, metric_names, calibrate)
    split = split or config.data.eval_split
    experiment = experiments.build(config, splits=(split,))
    mesh, count = make_mesh(config.train.devices), len(experiment.dataset.splits[split])
    variables = replicate(restored.variables, local_mesh(mesh))

    def bar(task):
        return lambda records: progress_bar(records, total=count, desc=f"{task} {split}")

    if calibrate:
        fit = dict(checkpoint=restored.step, progress=bar("calibrate"))
        calibration = calibrate_split(Evaluator(experiment, mesh), variables, split, calibrate, **fit)
    else:
        calibration = None if refine else load_calibration(workdir, restored.step)
    refiner = load_refiner(refine, workdir, config.eval) if refine else None
    evaluator = Evaluator(experiment, mesh, calibration=calibration, refine=refiner)
    shown = dict(pictures=config.log.pictures, progress=bar("eval"))
    evaluation = evaluator(variables, split, step=restored.step, **shown)
    scores = {"split": split, "checkpoint": restored.step, "pictures": count, "loss": evaluation.loss, "refine": refine}
    scores |= {"classes": list(restored.classes), **evaluation.scores}
    out = Path(out) if out else Path(workdir) / "eval" / (f"{split}-{refine}" if refine else split)
    _write(scores, evaluation, restored, out)
    print(evaluation.table(restored.classes))
    if calibrate:
        print(f"{calibrate} scaling -> {save_calibration(_measured(calibration, scores), workdir)}")
    print(f"checkpoint {restored.step}, split {split}, {count} pictures, loss {evaluation.loss:.4f} -> {out}")
    return scores


def _write(scores, evaluation, restored, out) -> None:
    """Writes scores.json and the pictures."""
    from jaxseg import visualize

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
    if "spread" in scores:
        visualize.spread_figure(scores, restored.classes, out / "spread.png")
    if "reliability" in scores:
        diagrams = {"as trained": scores} | ({"calibrated": scores["calibrated"]} if "calibrated" in scores else {})
        visualize.reliability_figure(
            {name: {**found["reliability"], "ece": found["ece"]} for name, found in diagrams.items()},
            out / "reliability.png",
        )


def _choose_metrics(c, names: Sequence[str] | None, calibrate: str | None) -> None:
    """Sets config.eval.metrics; the options of metrics that are not among them are dropped."""
    names = dict.fromkeys(("confusion", *(names or c.metrics)))  # in their order, once each
    if calibrate:
        lookup(KINDS, calibrate, "calibration")
        names["calibration"] = None
    c.metrics = tuple(names)
    for name in set(c.metric_options) - set(names):
        del c.metric_options[name]


def _measured(calibration, scores):
    """Adds what the metrics found, over all pixels of the split, before and after."""
    found = {key: {"before": scores[key], "after": scores["calibrated"][key]} for key in ("nll", "ece")}
    return dataclasses.replace(calibration, report={**calibration.report, **found})


def _plain(value):
    """Numbers as JSON has them: nan, the score of an absent class, is null."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
