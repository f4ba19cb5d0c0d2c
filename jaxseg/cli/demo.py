"""jaxseg demo: a local page to try a trained model on."""

import argparse

from jaxseg.cli import serve


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.epilog = "The page asks nothing of other servers, and images stay on this machine."
    serve.all_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Serves the page until it is asked to stop, and returns the exit status."""
    return serve.run(args, page=True)
