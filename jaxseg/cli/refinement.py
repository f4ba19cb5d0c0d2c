"""jaxseg refinement: what the CRF and the guided filter gain on random errors; a table and a figure."""

import argparse
from functools import partial

import numpy as np


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("--root", required=True, help="of a folder data set (docs/data.md)")
    parser.add_argument("--split", default="val", help="of the data set")
    parser.add_argument("--images", type=int, default=8, help="how many, evenly spread over the split")
    parser.add_argument("--flipped", type=float, default=0.4, help="share of the pixels with a random class")
    parser.add_argument("--sure", type=float, default=0.5, help="probability of the class named")
    parser.add_argument("--out", required=True, help="PNG file to write")


def main(args: argparse.Namespace) -> int:
    """Prints the table for images of a folder data set and draws the first of them."""
    import jax

    from jaxseg.bench.refinement import refinement_gain, sheet
    from jaxseg.config import default_config
    from jaxseg.data import create_dataset
    from jaxseg.inference.refine import REFINERS

    data = create_dataset("folder", args.root)
    source = data.splits[args.split]
    records = [source[int(i)] for i in np.linspace(0, len(source) - 1, args.images).round()]
    settings = default_config().eval
    refiners = {name: jax.jit(partial(function, **settings[name])) for name, function in REFINERS.items()}
    noise = {"flipped": args.flipped, "sure": args.sure}
    found, maps = refinement_gain(records, data.num_classes, refiners, ignore=data.ignore, **noise)
    for name, row in found.items():
        print(f"{name:8} mIoU {row['miou']:.4f}  right {row['pixel_accuracy']:.4f}  {row['seconds']:.2f} s an image")
    sheet(records[0], maps[0], found, data.palette, data.ignore, args.out)
    return 0
