"""Trains a model: python train.py --config configs/shapes_unet.py --workdir runs/shapes [--config.optim.lr=0.01]."""

import sys

from jaxseg.cli.program import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
