"""jaxseg show: what a model is made of, as a tree from the figure to the parameter."""

import argparse
import shutil
from pathlib import Path

from flax import linen as nn

from jaxseg.checks import UserError, closest
from jaxseg.cli.program import Parser


def arguments(parser: Parser) -> None:
    """Adds the flags of the command."""
    parser.takes_settings = True
    parser.add_argument("what", metavar="CONFIG|MODEL", help="a recipe, a config file, or a model of `jaxseg list`")
    parser.add_argument("--config.KEY", metavar="VALUE", dest="_", help="any setting of the config")
    parser.add_argument("--encoder", default="", help="of `jaxseg list` (default: the model's; a config has its own)")
    parser.add_argument("--classes", type=int, default=21, help="of the head")
    parser.add_argument("--size", type=int, nargs="+", help="height and width in pixels (default: the crop, or 512)")
    parser.add_argument("--depth", type=int, default=3, help="of the tree; 0: every module, no stage folded into a row")


def main(args: argparse.Namespace) -> int:
    """Prints the summary of a config's or an architecture's model and returns the exit status."""
    from jaxseg.analysis.summary import summarize
    from jaxseg.models import MODELS, create_model

    if args.what in MODELS:
        if args.settings:
            raise UserError(f"--config.KEY is for configs, and '{args.what}' is a model. Use --encoder, --classes.")
        model, size = create_model(args.what, args.encoder, num_classes=args.classes), (512, 512)
    else:
        model, size = _from_config(args)
    if args.size:
        size = (args.size[0], args.size[-1])
    print(summarize(model, size, args.depth, columns=shutil.get_terminal_size().columns))
    return 0


def _from_config(args: argparse.Namespace) -> tuple[nn.Module, tuple[int, int]]:
    from jaxseg.cli import recipes
    from jaxseg.experiment.build import build_model
    from jaxseg.models import MODELS

    known = [*MODELS, *recipes.recipes()]
    if (Path(args.what) / "config.json").is_file():
        raise UserError(
            f"'{args.what}' is the folder of a run or a bundle; show takes what it was made of: a recipe, a config file"
            " or a model. What it holds is in its config.json."
        )
    if args.what not in known and not args.what.endswith(".py"):
        raise UserError(
            f"'{args.what}' is neither a config file nor a recipe nor a model. {closest(args.what, known)}"
            f"Known models: {', '.join(MODELS)}. `jaxseg list configs` has the recipes."
        )
    config = recipes.load(args.what, args.settings)
    return build_model(config, args.classes), tuple(config.data.crop)
