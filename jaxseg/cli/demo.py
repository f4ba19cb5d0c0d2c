"""jaxseg demo: a local page to try a trained model on."""

import argparse

from jaxseg.cli import serve, source


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    from jaxseg.inference.refine import REFINERS

    parser.epilog = "The page asks nothing of other servers, and images stay on this machine."
    source.arguments(parser)
    serve.listening(parser)
    parser.add_argument("--refine", choices=REFINERS, help="refine predictions, with the run's settings")
    parser.add_argument("--threshold", type=float, help="of a model of one class (default: the model's own)")


def main(args: argparse.Namespace) -> int:
    """Serves the page until it is asked to stop, and returns the exit status."""
    return serve.run(args, refine=args.refine, threshold=args.threshold, page=True)
