"""jaxseg predict: label maps and overlays of image files."""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxseg.checks import UserError, printable
from jaxseg.cli import source
from jaxseg.inference.image_list import Failure, ImagePage
from jaxseg.inference.predict import Predictor
from jaxseg.inference.tiling import Strip
from jaxseg.inference.uncertainty import Ensemble
from jaxseg.inference.volumes import Volumes
from jaxseg.trained import TrainedModel

REPORTED = 100  # failures at the end
PROGRAMS = 2  # compiled ones that are kept: images come ordered by size


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    from jaxseg.inference.refine import REFINERS

    parser.add_argument("model", metavar="MODEL", help=source.HELP)
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files, stacks, or folders with some below")
    parser.add_argument("--out", required=True, help="folder to write NAME_label.png and NAME_overlay.png to")
    parser.add_argument(
        "--skip-existing", action="store_true", help="go on where an earlier run ended: leave out what is in --out"
    )
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        default=["best"],
        help="of a run: best (by validation mIoU), latest or a step; several: an ensemble",
    )
    parser.add_argument("--with", metavar="MODEL", dest="others", nargs="+", default=[], help="an ensemble with these")
    parser.add_argument(
        "--dropout", type=int, metavar="N", help="an ensemble of N samples of a model with dropout, which stays on"
    )
    parser.add_argument("--refine", choices=REFINERS, help="refine predictions, with the run's settings")
    parser.add_argument("--crf", dest="refine", action="store_const", const="crf", help="short for --refine crf")
    parser.add_argument(
        "--values",
        action="store_true",
        help="write NAME.png alone: gray, with the values that the data set's own label files have, for its server",
    )
    parser.add_argument(
        "--geojson", action="store_true", help="also write NAME.geojson: the outlines of all regions of every class"
    )
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="also write NAME_probabilities.tif: the probability of every label, a band each, in units of 1/255",
    )
    parser.add_argument(
        "--bucket",
        type=int,
        metavar="N",
        help="pad images to sizes that differ by N pixels, a multiple of the model's own step: fewer sizes to compile"
        " for, and more padding, which costs a little accuracy on small images",
    )
    source.tiling_arguments(parser)
    parser.add_argument(
        "--process",
        metavar="I/N",
        default="0/1",
        help="be the Ith of N processes, from 0, that share the images, and the rows of every large one, by one --out",
    )
    parser.add_argument("--alpha", type=float, default=0.5, help="weight of the classes' colors in overlays, 0 to 1")


def main(args: argparse.Namespace) -> int:
    """Predicts every image; what fails is reported, at once and at the end. Returns 1 if something did, else 0."""
    import numpy as np

    from jaxseg.data.readers import geo
    from jaxseg.inference.files import Outputs, is_predicted, to_stored
    from jaxseg.inference.folder import predict_pages
    from jaxseg.inference.image_list import find_below, name_outputs, read_sizes, say_programs, sort_by_grid
    from jaxseg.inference.raw_rows import Share
    from jaxseg.inference.stream import predict_streams, streamed

    if not 0 <= args.alpha <= 1:
        raise UserError(f"--alpha must be from 0 to 1, got {args.alpha}.")
    share = Share.parse(args.process)
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file, expected a folder.")
    files, failures = find_below(args.images, out)
    images = name_outputs(files, out, values=args.values)
    if args.geojson and not geo.is_installed():
        raise UserError("--geojson needs rasterio, which is not installed: pip install 'jaxseg[geo]'")
    predictor = _create_predictor(args)
    if args.values:
        to_stored(np.zeros((1, 1), np.int32), predictor.trained)  # raises if the model does not know the values
    outputs = Outputs(args.alpha, args.values, args.geojson, args.probabilities)
    ensemble = isinstance(predictor, Ensemble)
    every, found = images, len(images)
    if args.skip_existing:
        images = [page for page in images if not is_predicted(page, outputs, ensemble=ensemble)]
    out.mkdir(parents=True, exist_ok=True)
    sizes, seen = read_sizes(images), predictor.trained.preprocessing
    if many := say_programs(filter(None, sizes.values()), seen):
        print(many, file=sys.stderr)
    large = {} if ensemble else {page: tiling for page in images if (tiling := streamed(predictor, page))}
    small = sort_by_grid({page: size for page, size in sizes.items() if page not in large}, seen)
    small = small[share.index :: share.count]
    images = [*small, *large]
    outcome, volumes = Outcome(len(images), failures), Volumes(every, small, values=args.values)

    def pages() -> Iterator[tuple[ImagePage, list[str] | Exception]]:
        yield from predict_pages(predictor, small, outputs)
        if large:
            yield from predict_streams(predictor, large, outputs, share=share, progress=_rows_bar)

    try:
        _predict(pages(), outcome, volumes)
        for file in volumes.missing():
            _count_volume(outcome, file, lambda file=file: volumes.write(file))
    finally:  # an interrupted one is reported, too
        there = f", {found - len(images)} were there" if args.skip_existing else ""
        count = outcome.volumes
        there += f", {count} NIfTI volume{'s' * (count > 1)} written" if count else ""
        print(f"{outcome.written} of {len(images)} images predicted{there} -> {printable(str(out))}")
        outcome.report()
    return 1 if failures else 0


@dataclasses.dataclass
class Outcome:
    """What came of the images."""

    images: int
    failures: list[Failure]
    tried: int = 0
    written: int = 0
    volumes: int = 0  # NIfTI label maps

    def report(self) -> None:
        """Says what was not predicted, and why."""
        left = self.images - self.tried
        lines = [f"{len(self.failures)} not predicted:"] if self.failures else []
        lines += [f"  {failure}" for failure in self.failures[:REPORTED]]
        if len(self.failures) > REPORTED:
            lines.append(f"  and {len(self.failures) - REPORTED} more, named above")
        if left:
            lines.append(f"{left} were not tried. The same command with --skip-existing goes on there.")
        if lines:
            print("\n".join(lines), file=sys.stderr, flush=True)


def _predict(pages: Iterator[tuple[ImagePage, list[str] | Exception]], outcome: Outcome, volumes: Volumes) -> None:
    """Counts the images that are predicted, and says what is to be said of each."""
    from jaxseg.experiment.log import progress_bar

    said: set[str] = set()
    with contextlib.closing(pages), progress_bar(pages, total=outcome.images, desc="predict", unit="image") as bar:
        for page, found in bar:
            if isinstance(found, Exception):
                number = f"[{page.page}]" if page.page is not None else ""
                outcome.failures.append(Failure(f"{page.file}{number}", _reason(found)))
                bar.write(f"error: {outcome.failures[-1]}", file=sys.stderr)
            else:
                for note in found:
                    if note not in said:
                        bar.write(f"note: {printable(note)}", file=sys.stderr)
                        said.add(note)
                outcome.written += 1
            outcome.tried += 1
            failed = isinstance(found, Exception)
            _count_volume(outcome, page.file, lambda page=page, failed=failed: volumes.after(page, failed=failed))


def _count_volume(outcome: Outcome, file: Path, write: Callable[[], Path | None]) -> None:
    """Counts the volume that `write` writes; one that cannot be made stops no other."""
    try:
        outcome.volumes += write() is not None
    except (OSError, UserError) as error:
        outcome.failures.append(Failure(str(file), _reason(error)))


def _rows_bar(strips: Iterator[Strip], rows: int) -> Iterator[Strip]:
    """The strips, with a bar of the rows that are predicted."""
    from jaxseg.experiment.log import progress_bar

    with progress_bar((), total=rows, desc="rows", unit="row", leave=False) as bar:
        for strip in strips:
            yield strip
            bar.update(len(strip.result))


def _reason(error: Exception) -> str:
    """What went wrong; it names the file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _create_predictor(args: argparse.Namespace) -> Predictor | Ensemble:
    models, steps = [args.model, *args.others], args.checkpoint
    several = len(models) > 1 or len(steps) > 1
    if (several and args.dropout is not None) or ((several or args.dropout is not None) and args.refine):
        raise UserError(
            "An ensemble is of models or checkpoints, or of --dropout samples of one model; leave out --refine."
        )
    if len(models) > 1 and len(steps) not in (1, len(models)):
        raise UserError(f"Give one --checkpoint for all {len(models)} models, or one for each; got {len(steps)}.")
    count = max(len(models), len(steps))
    pairs = zip(*(x * count if len(x) == 1 else x for x in (models, steps)), strict=True)
    trained = [source.open_model(model, step) for model, step in pairs]
    if args.bucket is not None:
        trained = [dataclasses.replace(each, preprocessing=each.preprocessing.coarser(args.bucket)) for each in trained]
    if several:
        return Ensemble(trained, **source.tiling(args))
    if args.dropout is not None:
        _check_dropout(trained[0])
        return Ensemble.from_dropout(trained[0], samples=args.dropout, **source.tiling(args))
    return Predictor(trained[0], refine=args.refine, programs=PROGRAMS, **source.tiling(args))


def _check_dropout(trained: TrainedModel) -> None:
    """Raises the error of a model without dropout once, rather than at every image; nothing is computed."""
    import jax

    from jaxseg.inference.uncertainty import dropout_logits

    seen = trained.preprocessing
    logits = dropout_logits(trained.model, seen, samples=1)
    image = jax.ShapeDtypeStruct((1, *seen.padded(seen.bucket, seen.bucket), seen.bands.count), seen.bands.dtype)
    jax.eval_shape(logits, trained.variables, image)
