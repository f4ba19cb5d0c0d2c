"""jaxseg predict: label maps and overlays of image files."""

import argparse
import sys
from pathlib import Path

from jaxseg.checks import UserError
from jaxseg.cli import source
from jaxseg.inference.predict import Predictor
from jaxseg.inference.uncertainty import Ensemble
from jaxseg.trained import TrainedModel


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    from jaxseg.inference.refine import REFINERS

    parser.add_argument("model", metavar="MODEL", help=source.HELP)
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files, stacks, or folders of them")
    parser.add_argument("--out", required=True, help="folder to write NAME_label.png and NAME_overlay.png to")
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
    parser.add_argument("--alpha", type=float, default=0.5, help="weight of the classes' colors in overlays, 0 to 1")


def main(args: argparse.Namespace) -> int:
    """Predicts every image; one that does not read is reported and skipped. Returns 1 if there was one, else 0."""
    import numpy as np

    from jaxseg.data.readers import geo
    from jaxseg.experiment.log import progress_bar
    from jaxseg.inference.files import find_images, name_outputs, predict_file, to_stored

    if not 0 <= args.alpha <= 1:
        raise UserError(f"--alpha must be from 0 to 1, got {args.alpha}.")
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file, expected a folder.")
    images = name_outputs(find_images(args.images), out, values=args.values)
    if args.geojson and not geo.is_installed():
        raise UserError("--geojson needs rasterio, which is not installed: pip install 'jaxseg[geo]'")
    predictor = _create_predictor(args)
    if args.values:
        to_stored(np.zeros((1, 1), np.int32), predictor.trained)  # raises if the model does not know the values
    out.mkdir(parents=True, exist_ok=True)
    failed, bar = [], progress_bar(images, desc="predict", unit="image")
    for page in bar:
        try:
            for note in predict_file(predictor, page, alpha=args.alpha, values=args.values, geojson=args.geojson):
                bar.write(f"note: {note}", file=sys.stderr)
        except UserError as error:
            failed.append(page)
            bar.write(f"error: {error}", file=sys.stderr)
    print(f"{len(images) - len(failed)} of {len(images)} images predicted -> {out}")
    return 1 if failed else 0


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
    if several:
        return Ensemble(trained)
    if args.dropout is not None:
        _check_dropout(trained[0])
        return Ensemble.from_dropout(trained[0], samples=args.dropout)
    return Predictor(trained[0], refine=args.refine)


def _check_dropout(trained: TrainedModel) -> None:
    """Raises the error of a model without dropout once, rather than at every image; nothing is computed."""
    import jax

    from jaxseg.inference.uncertainty import dropout_logits

    seen = trained.preprocessing
    logits = dropout_logits(trained.model, seen, samples=1)
    image = jax.ShapeDtypeStruct((1, *seen.padded(seen.bucket, seen.bucket), seen.bands.count), seen.bands.dtype)
    jax.eval_shape(logits, trained.variables, image)
