"""The trained model that a command is given, and the labeled data that it looks at it with."""

import argparse
from pathlib import Path
from typing import Any

from jaxseg.checks import UserError
from jaxseg.data import Dataset
from jaxseg.trained import TrainedModel

HELP = "a run's folder, a bundle, hf:OWNER/REPO, or a folder of smp's save_pretrained"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds MODEL and --checkpoint, which `trained` reads."""
    parser.add_argument("model", metavar="MODEL", help=HELP)
    checkpoint(parser)


def checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint."""
    parser.add_argument("--checkpoint", default="best", help="of a run: best (by validation mIoU), latest or a step")


def data_arguments(parser: argparse._ActionsContainer) -> None:
    """Adds the flags that `data` reads."""
    parser.add_argument("--data", metavar="NAME", help="of `jaxseg list datasets` (default: the run's own)")
    parser.add_argument("--root", metavar="DIR", help="where the data is (default: where the run had it)")
    parser.add_argument("--split", help="of the data (default: the run's data.eval_split, or val)")
    parser.add_argument(
        "--strict",
        action="store_true",
        default=None,
        help="end at an image that does not read (default: leave it out and say so, unless the run's eval.strict)",
    )
    parser.add_argument(
        "--accept-data", action="store_true", help="take data that is not what the run's dataset.json says"
    )


def tiling_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `tiling` reads."""
    from jaxseg.ops.tiling import BLENDS

    own = "(default: the run's eval.{}, else {})"
    parser.add_argument(
        "--tile",
        metavar="N",
        help="sides of the tiles, in pixels, that larger images are cut into; none: whole; auto: cut what does not fit"
        f" into the memory {own.format('tile', 'auto')}",
    )
    overlap = f"share of a tile that its neighbor has {own.format('overlap', 0.25)}"
    parser.add_argument("--overlap", type=float, metavar="X", help=overlap)
    parser.add_argument("--blend", choices=sorted(BLENDS), help=f"of tiles {own.format('blend', 'gaussian')}")
    parser.add_argument(
        "--tta",
        metavar="NAME,…",
        help="test-time augmentation: the mean over flip, d4 (flips and turns) and scales, as flip,0.75,1.25"
        f" {own.format('tta', 'none')}",
    )


def tiling(args: argparse.Namespace) -> dict[str, Any]:
    """Returns what the flags of `tiling_arguments` say, arguments of a `Predictor`; None is the run's own."""
    return {name: getattr(args, name) for name in ("tile", "overlap", "blend", "tta")}


def trained(args: argparse.Namespace) -> TrainedModel:
    """Returns the model that MODEL and --checkpoint name; programs that its run compiled are used again."""
    return open_model(args.model, args.checkpoint)


def open_model(source: str, step: str) -> TrainedModel:
    """Returns the model of a source; programs that its run compiled are used again.

    Not those of a folder that its config names: it may be a stranger's, and compiled programs are run as they are.
    """
    from jaxseg.config import default_config
    from jaxseg.experiment.workdir import enable_compilation_cache
    from jaxseg.trained import load

    found = load(source, step)
    if found.config and found.config.train.compilation_cache:
        enable_compilation_cache(default_config().train.compilation_cache)
    return found


def data(args: argparse.Namespace, model: TrainedModel) -> tuple[Dataset, str]:
    """Returns the data that the flags name, a folder where they say no more, and the split."""
    from jaxseg.evaluation.data import find_dataset

    name = args.data or ("folder" if args.root and not model.config else None)
    return find_dataset(model, args.split, name=name, root=args.root, accept=args.accept_data, strict=args.strict)


def out_folder(args: argparse.Namespace, model: TrainedModel, inside: str) -> Path:
    """Returns the folder of --out, or one inside the run's."""
    if args.out:
        return Path(args.out)
    if model.workdir is None:
        raise UserError(f"Name the folder to write to with --out: {args.model} is no run, whose folder would get it.")
    return Path(model.workdir) / inside
