"""jaxseg train: from a recipe or a config file to checkpoints, scores and figures; the same command resumes."""

import argparse

from jaxseg.checks import UserError
from jaxseg.cli import distributed
from jaxseg.cli.program import Parser

EPILOG = """any setting of jaxseg/config.py can be given, after the config:
  --config.optim.lr=3e-4  --config.data.crop=320,320  --config.log.images=0
  --config.loss.terms.focal=1  --config.loss.options.focal.gamma=2  (one more)
  --config.loss.terms.dice=0                                        (one less)
  --config.model.options.decoder_channels=none       (back to the model's own)

examples:
  jaxseg train shapes_unet --workdir runs/shapes
  jaxseg train mine.py --workdir runs/mine --config.train.epochs=50
"""


def arguments(parser: Parser) -> None:
    """Adds the flags of the command."""
    parser.epilog, parser.takes_settings = EPILOG, True
    parser.add_argument("recipe", metavar="CONFIG", nargs="?", help="a recipe of `jaxseg list configs`, or a file")
    parser.add_argument("--config", metavar="CONFIG", help="the same, as a flag")
    parser.add_argument("--config.KEY", metavar="VALUE", dest="_", help="any setting of the config, see below")
    parser.add_argument("--workdir", required=True, help="the run's folder; the same folder again resumes the run")
    distributed.arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Trains, and returns the exit status."""
    from jaxseg.cli import recipes

    if (args.recipe is None) == (args.config is None):
        raise UserError("Name one config: jaxseg train CONFIG, or --config CONFIG. `jaxseg list configs` has recipes.")
    config = recipes.load(args.recipe or args.config, args.settings)
    from jaxseg.training.loop import train

    with distributed.joining(args):
        train(config, args.workdir)
    return 0
