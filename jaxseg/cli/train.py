"""jaxseg train: from a recipe or a config file to checkpoints, scores and figures; the same command resumes."""

import argparse
from pathlib import Path

from ml_collections import ConfigDict

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
  jaxseg train mine.py --from runs/shapes --workdir runs/mine
"""


def arguments(parser: Parser) -> None:
    """Adds the flags of the command."""
    parser.epilog, parser.takes_settings = EPILOG, True
    parser.add_argument("recipe", metavar="CONFIG", nargs="?", help="a recipe of `jaxseg list configs`, or a file")
    parser.add_argument("--config", metavar="CONFIG", help="the same, as a flag")
    parser.add_argument("--config.KEY", metavar="VALUE", dest="_", help="any setting of the config, see below")
    parser.add_argument("--workdir", required=True, help="the run's folder; the same folder again resumes the run")
    parser.add_argument(
        "--from",
        dest="origin",
        metavar="MODEL",
        help="start from its weights: a run's folder, a bundle or hf:OWNER/REPO; its classes and bands may be others",
    )
    parser.add_argument(
        "--accept-data",
        action="store_true",
        help="go on with data that is not what the run began with; dataset.json tells both",
    )
    distributed.arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Trains, and returns the exit status."""
    from jaxseg.cli import recipes
    from jaxseg.experiment.xla import set_flags

    if (args.recipe is None) == (args.config is None):
        raise UserError("Name one config: jaxseg train CONFIG, or --config CONFIG. `jaxseg list configs` has recipes.")
    config = recipes.load(args.recipe or args.config, args.settings)
    set_flags(config)  # before JAX looks for devices
    if args.origin:
        _start_from(config, args.origin, args.workdir)
    from jaxseg.training.loop import train

    with distributed.joining(args):
        train(config, args.workdir, accept_data=args.accept_data)
    return 0


def _start_from(config: ConfigDict, origin: str, workdir: str) -> None:
    """Puts the model of --from into a config, in place of an encoder's weights that the recipe may name."""
    if config.model.weights not in ("", origin):
        raise UserError(f"--from {origin}, but config.model.weights={config.model.weights}. Leave one of them out.")
    if Path(origin).expanduser().resolve() == Path(workdir).resolve():
        raise UserError(
            f"--from and --workdir are one folder, {origin}. Leave --from out to go on with that run, or name another"
            " --workdir for a new one."
        )
    config.model.update(weights=origin, replace_head=True, encoder_weights="")
