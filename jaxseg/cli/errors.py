"""jaxseg errors: one HTML page of a trained model's errors."""

import argparse
import dataclasses
import warnings
from pathlib import Path

import numpy as np

from jaxseg.checks import UserError
from jaxseg.cli import source


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    source.arguments(parser)
    source.data_arguments(parser)
    source.tiling_arguments(parser)
    parser.add_argument("--out", help="folder to write errors.html to (default: MODEL/errors/SPLIT)")
    parser.add_argument("--worst", type=int, default=12, help="images to show")
    parser.add_argument("--pairs", type=int, default=10, help="confused pairs of classes to show")


def main(args: argparse.Namespace) -> int:
    """Writes the page and returns the exit status."""
    from jaxseg.evaluation.error_page import page
    from jaxseg.evaluation.readable import Counted, of_how_many, summary
    from jaxseg.evaluation.survey import survey
    from jaxseg.experiment.log import progress_bar
    from jaxseg.files import check_writable, write_text
    from jaxseg.inference.predict import Predictor

    if args.worst < 1 or args.pairs < 1:
        raise UserError(f"--worst and --pairs must be at least 1, got {args.worst} and {args.pairs}.")
    trained = source.trained(args)
    dataset, split = source.data(args, trained)
    out = source.out_folder(args, trained, f"errors/{split}")
    check_writable(out)
    predictor = Predictor(trained, **source.tiling(args))
    records = Counted(dataset.splits[split], trained.bands, dataset.ignore)
    found = survey(
        predictor.predict_batch,
        records,
        len(trained.classes),
        ignore=dataset.ignore,
        strict=trained.config is not None and trained.config.eval.strict if args.strict is None else args.strict,
        progress=lambda batches: progress_bar(batches, desc=f"errors {split}", unit="batch"),
    )
    if found.unreadable:
        warnings.warn(summary(split, len(records), found.unreadable))
    step = "" if trained.step is None else f", step {trained.step}"
    title = f"{Path(args.model).resolve().name}{step}, split {split}"
    if dataset.num_classes == 1:  # the page shows both labels
        dataset = dataclasses.replace(dataset, classes=trained.classes, palette=trained.palette, values=None)
    text = page(found, dataset, records, predictor, title=title, worst=args.worst, pairs_shown=args.pairs)
    write_text(out / "errors.html", text)
    wrong = 1 - np.trace(found.matrix) / max(found.matrix.sum(), 1)
    count = of_how_many(len(found.errors) - len(found.unreadable), len(found.unreadable))
    print(f"{count}, {100 * wrong:.2f} % of the pixels wrong -> {out / 'errors.html'}")
    return 0
