"""jaxseg losses: plot each loss's surface and its gradient on an example."""

import argparse
import sys
from pathlib import Path

from jaxseg.checks import lookup


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("losses", nargs="*", metavar="LOSS", help="names of `jaxseg list losses`; all, if none")
    parser.add_argument("--out", required=True, help="folder to write losses.png to")


def main(args: argparse.Namespace) -> int:
    """Draws the losses and returns the exit status."""
    from tqdm import tqdm

    from jaxseg.analysis.loss_maps import example, push, surface
    from jaxseg.losses import LOSSES
    from jaxseg.visualize import losses_figure

    names = args.losses or list(LOSSES)
    losses = {name: lookup(LOSSES, name, "loss") for name in names}
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    label, probability = example()
    maps = {}
    for name, loss in tqdm(losses.items(), disable=not sys.stderr.isatty()):
        maps[name] = {"surface": surface(loss, label), "push": push(loss, label, probability)}
    losses_figure(maps, label, probability, out / "losses.png")
    print(out / "losses.png")
    return 0
