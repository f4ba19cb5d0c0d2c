"""The data set that a trained model is evaluated on: that of its run, or another one by name."""

import warnings
from collections.abc import Mapping
from typing import Any

from jaxseg.checks import UserError, listing
from jaxseg.data import Dataset, check_dataset, create_dataset
from jaxseg.experiment.identity import Difference, describe_data, differences
from jaxseg.files import read_json
from jaxseg.trained import TrainedModel


def find_dataset(
    trained: TrainedModel,
    split: str | None = None,
    *,
    name: str | None = None,
    root: str | None = None,
    options: Mapping[str, Any] | None = None,
    accept: bool = False,
    strict: bool | None = None,
) -> tuple[Dataset, str]:
    """Returns a data set with the model's classes and the name of the split to look at, both checked.

    Args:
      trained: of `jaxseg.load`.
      split: of the data set; None is the run's config.data.eval_split, and "val" where there is no run.
      name: a key of `jaxseg.DATASETS`; None is the data set of the model's run.
      root: the folder that holds the data; None is where the run had it.
      options: further arguments of the data set's function, label_offset and label_ignore among them; those of the
        run's config are used where `name` is None, and these go before them.
      accept: take data that is not what the run's dataset.json says. What is not is a warning then, and scores.json
        tells it, see `unlike`.
      strict: whether an image that does not read is an error; None is config.eval.strict.

    Raises:
      UserError: the data is not the run's, or does not fit the model.
    """
    run = trained.config.data if trained.config and name is None else None
    if run is None and name is None:
        raise UserError(
            "This model does not come with a run that says what data it is for. Name the data set, and where it is:"
            " --data NAME --root DIR."
        )
    arguments = dict(options or {})
    if run is not None:
        given = {"label_offset": run.label_offset, "label_ignore": tuple(run.label_ignore), **run.options.to_dict()}
        arguments = given | arguments
        if run.name.startswith("tfds:") and run.root and root is None:
            raise UserError(
                f"{trained.workdir} was trained on {run.name} in {run.root}. A prepared data set of TFDS may name code"
                " to run, and a run that is not your own any folder: say that you trust this one with --root"
                f" {run.root}."
            )
        name, root, split = run.name, run.root if root is None else root, split or run.eval_split
    dataset = create_dataset(name, root or "", **arguments)
    split = split or "val"
    if strict is None:
        strict = trained.config is not None and trained.config.eval.strict
    check_dataset(dataset, split, strict=strict)
    if run is not None and not options:  # whoever gives options means other data
        _compare(unlike(trained, dataset, split), trained, accept)
    check_classes(trained, dataset)
    return dataset, split


def unlike(trained: TrainedModel, dataset: Dataset, split: str) -> list[Difference]:
    """Returns what of a data set differs from what dataset.json of the model's run says; nothing for other models.

    Args:
      trained: of `jaxseg.load`.
      dataset: to evaluate it on.
      split: of the data set; splits that the run did not read are not compared.
    """
    path = trained.workdir and trained.workdir / "dataset.json"
    if not path or not path.is_file():
        return []
    return differences(read_json(path, "Copy it again, or train again."), describe_data(dataset, [split]))


def _compare(found: list[Difference], trained: TrainedModel, accept: bool) -> None:
    if not found:
        return
    text = "\n  ".join(difference.text for difference in found)
    if accept and not any(difference.fatal for difference in found):
        warnings.warn(f"The data is not that of the run {trained.workdir}:\n  {text}")
        return
    cure = "" if any(difference.fatal for difference in found) else " Or take it as it is: --accept-data."
    raise UserError(
        f"The data is not that of the run {trained.workdir}, so that scores can't be compared with the run's:\n  {text}"
        f"\nName the folder that holds the run's own with --root, or other data with --data NAME --root DIR.{cure}"
    )


def check_bands(trained: TrainedModel, dataset: Dataset) -> None:
    """Raises a `UserError` where a data set's images have other bands, or another type, than the model's."""
    ours, theirs = trained.bands, dataset.bands
    if (ours.count, ours.dtype) != (theirs.count, theirs.dtype):
        raise UserError(
            f"The model takes images of {ours.count} bands ({listing(ours.names, 6)}) of {ours.dtype}, and those of"
            f" the data set '{dataset.name}' have {theirs.count} ({listing(theirs.names, 6)}) of {theirs.dtype}."
        )


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
