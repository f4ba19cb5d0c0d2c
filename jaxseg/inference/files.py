"""python -m jaxseg predict: label maps and overlays of picture files."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxseg.checks import UserError
from jaxseg.inference.predict import Predictor
from jaxseg.inference.refine import REFINERS
from jaxseg.inference.uncertainty import Ensemble

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command to its parser."""
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--workdir", nargs="+", help="folder that train.py wrote; several, runs of one config: an ensemble"
    )
    model.add_argument("--bundle", help="folder that `jaxseg convert` wrote, or hf:OWNER/REPO")
    parser.add_argument("--images", required=True, nargs="+", help="picture files, or folders of them")
    parser.add_argument("--out", required=True, help="folder to write NAME_label.png and NAME_overlay.png to")
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        default=["best"],
        help="best (by validation mIoU), latest or a step; several: an ensemble",
    )
    parser.add_argument(
        "--dropout", type=int, metavar="N", help="an ensemble of N samples of a model with dropout, which stays on"
    )
    parser.add_argument("--refine", choices=REFINERS, help="mend the edges by the picture, with the run's settings")
    parser.add_argument("--crf", dest="refine", action="store_const", const="crf", help="short for --refine crf")
    parser.add_argument("--alpha", type=float, default=0.5, help="weight of the classes' colours in overlays, 0 to 1")


def run(args: argparse.Namespace) -> int:
    """Predicts every picture; one that does not read is reported and skipped. Returns 1 if there was one, else 0."""
    from tqdm import tqdm

    if not 0 <= args.alpha <= 1:
        raise UserError(f"--alpha must be from 0 to 1, got {args.alpha}.")
    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file, expected a folder.")
    pictures = name_outputs(find_pictures(args.images), out)
    predictor = _create_predictor(args)
    out.mkdir(parents=True, exist_ok=True)
    failed = []
    for file, stem in tqdm(pictures.items(), desc="predict", unit="picture", dynamic_ncols=True):
        try:
            predict_file(predictor, file, stem, alpha=args.alpha)
        except UserError as error:
            failed.append(file)
            tqdm.write(f"error: {error}", file=sys.stderr)
    print(f"{len(pictures) - len(failed)} of {len(pictures)} pictures predicted -> {out}")
    return 1 if failed else 0


def _create_predictor(args: argparse.Namespace) -> Predictor | Ensemble:
    from jaxseg.experiment import build as experiment
    from jaxseg.trained import load

    several = len(args.checkpoint) > 1 or len(args.workdir or ()) > 1
    samples = args.dropout is not None
    if (several or samples) and (args.refine or args.bundle or (several and samples)):
        raise UserError(
            "An ensemble is of workdirs or checkpoints, or of --dropout samples of one; leave out --bundle, --refine."
        )
    sources = args.workdir or [args.bundle]
    count = max(len(sources), len(args.checkpoint))
    sources, checkpoints = (x * count if len(x) == 1 else x for x in (sources, args.checkpoint))
    if len(sources) != len(checkpoints):
        raise UserError(f"Got {len(sources)} workdirs but {len(checkpoints)} checkpoints. Name one a workdir.")
    members = [load(*pair) for pair in zip(sources, checkpoints, strict=True)]
    if members[0].config:
        experiment.enable_compilation_cache(members[0].config.train.compilation_cache)
    if samples:
        return Ensemble.from_dropout(members[0], samples=args.dropout)
    return Ensemble(members) if several else Predictor(members[0], refine=args.refine)


def predict_file(predictor: Predictor | Ensemble, file: Path, stem: Path, *, alpha: float = 0.5) -> None:
    """Writes STEM_label.png, a palette PNG of class ids, and STEM_overlay.png, the tinted picture with a legend.

    Of an ensemble, STEM_uncertainty.png shows the entropy and the mutual information too.

    Args:
      predictor: the model, or several.
      file: the picture.
      stem: the outputs' path, less `_label.png`.
      alpha: weight of the tint, 0 to 1.
    """
    from PIL import Image

    from jaxseg import visualize
    from jaxseg.data.imagefile import read_picture

    image = read_picture(str(file))
    trained = predictor.trained
    if isinstance(predictor, Ensemble):
        maps = predictor.uncertainty(image)
        label = maps.pop("probabilities").argmax(-1).astype(np.int32)
        maps = {name.replace("_", " "): values for name, values in maps.items()}
        visualize.uncertainty_figure(image, maps, f"{stem}_uncertainty.png")
    else:
        label = predictor(image)
    visualize.save_label_png(f"{stem}_label.png", label, trained.palette)
    tinted = visualize.overlay(image, label, trained.palette, trained.classes, alpha=alpha, ignore=trained.ignore)
    Image.fromarray(tinted).save(f"{stem}_overlay.png")


def find_pictures(paths: Sequence[str]) -> list[Path]:
    """Returns the files named, and the pictures in the folders named, in order and once each."""
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise UserError(f"--images: the folder {path} holds no picture ({' '.join(SUFFIXES)}).")
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            raise UserError(f"--images: {path} does not exist. Give picture files or folders of them.")
    return list(found)


def name_outputs(files: Iterable[Path], out: Path) -> dict[Path, Path]:
    """Returns file -> stem of its outputs; raises if two files would share one, or an output would replace an input."""
    stems, inputs = {}, {file.resolve() for file in files}
    for file in files:
        stem = out / file.stem
        if stem in stems:
            raise UserError(
                f"--images: {stems[stem]} and {file} would both be written to {stem}_label.png. Predict them into"
                " different --out folders."
            )
        for output in (f"{stem}_{what}.png" for what in ("label", "overlay", "uncertainty")):
            if Path(output).resolve() in inputs:
                raise UserError(f"{output} is one of the --images and would be overwritten. Choose another --out.")
        stems[stem] = file
    return {file: stem for stem, file in stems.items()}
