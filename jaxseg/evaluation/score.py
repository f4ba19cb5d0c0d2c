"""The scores of a trained model on a split, with figures, after a calibration if asked for."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg.checks import UserError, listing, lookup
from jaxseg.config import default_config
from jaxseg.data import Dataset
from jaxseg.evaluation.calibrate import calibrate_split
from jaxseg.evaluation.data import unlike
from jaxseg.evaluation.evaluator import Evaluation, Evaluator, options_of
from jaxseg.evaluation.readable import of_how_many
from jaxseg.experiment.devices import make_mesh_like
from jaxseg.experiment.log import progress_bar
from jaxseg.files import check_writable, write_json
from jaxseg.inference.calibration import KINDS, Calibration, find_calibration, save_calibration
from jaxseg.inference.refine import find_refiner
from jaxseg.trained import TrainedModel


def evaluate(
    trained: TrainedModel,
    dataset: Dataset,
    split: str,
    *,
    out: str | Path | None = None,
    metric_names: Sequence[str] | None = None,
    metric_options: Mapping[str, Mapping[str, Any]] | None = None,
    calibrate: str | None = None,
    refine: str | None = None,
    strict: bool | None = None,
    **applied: Any,
) -> dict[str, Any]:
    """Scores a trained model on a split: prints the table, writes scores.json, confusion.png and predictions.png.

    With the metric "calibration" also reliability.png, with "spread" spread.png. How the model is evaluated, its batch
    size, metrics and loss, is what its run's config says; a model without a run has the defaults and no loss.

    Args:
      trained: of `jaxseg.load`.
      dataset: with the model's classes, e.g. of `jaxseg.evaluation.data.find_dataset`.
      split: a key of its splits.
      out: the folder to write to; None is WORKDIR/eval/SPLIT, or WORKDIR/eval/SPLIT-crf for refined predictions.
      metric_names: keys of `METRICS`; None is config.eval.metrics.
      metric_options: of these metrics, {name: {argument: value}}, added to config.eval.metric_options.
      calibrate: "temperature" or "vector": fit a calibration to the split first and write WORKDIR/calibration.json.
      refine: "crf" or "guided": score the predictions after it; not calibrated.
      strict: whether an image that does not read is an error; None is config.eval.strict. It is else left out.
      **applied: tile, overlap, blend and tta, as for `jaxseg.Predictor`; None is config.eval's.

    Returns:
      What scores.json holds.
    """
    if calibrate:
        _check_calibrate(trained, calibrate, refine)
    if out is None and trained.workdir is None:
        raise UserError("There is no run's workdir to write the scores to. Name a folder: --out DIR.")
    config = (trained.config or default_config()).copy_and_resolve_references()
    _choose_metrics(config.eval, metric_names, calibrate, metric_options or {})
    config.eval.strict = config.eval.strict if strict is None else strict
    out = Path(out) if out else trained.workdir / "eval" / (f"{split}-{refine}" if refine else split)
    for folder in [out, *([trained.workdir] if calibrate else [])]:
        check_writable(folder)
    options = options_of(config) | {name: value for name, value in applied.items() if value is not None}
    if trained.config is None:
        options["loss"] = None
    mesh, count = make_mesh_like(config.train.devices, config.train.fsdp), len(dataset.splits[split])

    def bar(task: str) -> Callable[[Iterator], Iterator]:
        return lambda records: progress_bar(records, total=count, desc=f"{task} {split}")

    if calibrate:
        fitting = Evaluator(trained, dataset, mesh, **options)
        calibration = calibrate_split(fitting, split, calibrate, checkpoint=trained.step, progress=bar("calibrate"))
    else:
        calibration = None if refine else find_calibration(trained)
    refiner = find_refiner(refine, trained) if refine else None
    evaluator = Evaluator(trained, dataset, mesh, **options, calibration=calibration, refine=refiner)
    evaluation = evaluator(split, images=config.log.images, step=trained.step or 0, progress=bar("eval"))
    loss = {"loss": evaluation.loss} if trained.config else {}
    scores = {"split": split, "checkpoint": trained.step, "images": evaluation.images, **loss, "refine": refine}
    scores |= {"unreadable": evaluation.unreadable, **evaluator.options.to_json()}
    scores |= {"classes": list(trained.classes), **evaluation.scores}
    if other := [difference.text for difference in unlike(trained, dataset, split)]:
        scores["data"] = other
    print(evaluation.table(trained.classes))  # first: a full disk does not take it away
    _write(scores, evaluation, trained, out)
    if calibrate:
        print(f"{calibrate} scaling -> {save_calibration(_measured(calibration, scores), trained.workdir)}")
    if lost := evaluation.never_predicted(trained.classes):
        print(lost)
    said = [f"checkpoint {trained.step}"] * (trained.step is not None) + [
        f"split {split}, {of_how_many(evaluation.images, evaluation.unreadable)}"
    ]
    print(", ".join([*said, *(f"{name} {value:.4f}" for name, value in loss.items())]), "->", out)
    return scores


def _check_calibrate(trained: TrainedModel, calibrate: str, refine: str | None) -> None:
    lookup(KINDS, calibrate, "calibration")
    if refine:
        raise UserError("--calibrate fits the model's own probabilities: leave out --crf and --refine.")
    if trained.workdir is None:
        raise UserError("--calibrate keeps what it finds in a run's workdir, and this model has none. Leave it out.")


def _write(scores: Mapping[str, Any], evaluation: Evaluation, trained: TrainedModel, out: Path) -> None:
    """Writes scores.json and the figures."""
    from jaxseg import visualize

    write_json(out / "scores.json", scores)
    visualize.confusion_figure(evaluation.matrix, trained.classes, out / "confusion.png")
    visualize.prediction_grid(
        evaluation.samples,
        palette=trained.palette,
        classes=trained.classes,
        path=out / "predictions.png",
        ignore=trained.ignore,
    )
    if "spread" in scores:
        visualize.spread_figure(scores, trained.classes, out / "spread.png")
    if "reliability" in scores:
        diagrams = {"as trained": scores} | ({"calibrated": scores["calibrated"]} if "calibrated" in scores else {})
        visualize.reliability_figure(
            {name: {**found["reliability"], "ece": found["ece"]} for name, found in diagrams.items()},
            out / "reliability.png",
        )


def _choose_metrics(
    c: Any, names: Sequence[str] | None, calibrate: str | None, given: Mapping[str, Mapping[str, Any]]
) -> None:
    """Sets config.eval.metrics and their options; those of metrics that are not among them are dropped."""
    names = dict.fromkeys(("confusion", *(names or c.metrics)))  # in their order, once each
    if calibrate:
        names["calibration"] = None
    c.metrics = tuple(names)
    for name in set(c.metric_options) - set(names):
        del c.metric_options[name]
    if lost := sorted(set(given) - set(names)):
        raise UserError(
            f"There are options of {listing(lost)}, but what is counted is {listing(list(names))}. Name the metric too:"
            f" --metrics {','.join([*names, *lost])}."
        )
    with c.metric_options.unlocked():
        for name, options in given.items():
            c.metric_options[name] = {**c.metric_options.get(name, {}), **options}


def _measured(calibration: Calibration, scores: Mapping[str, Any]) -> Calibration:
    """Adds what the metrics found, over all pixels of the split, before and after."""
    found = {key: {"before": scores[key], "after": scores["calibrated"][key]} for key in ("nll", "ece")}
    return dataclasses.replace(calibration, report={**calibration.report, **found})
