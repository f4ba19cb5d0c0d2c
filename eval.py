"""Evaluates a run: python eval.py --workdir runs/shapes [--split val] [--checkpoint best|latest|STEP]."""

import sys

from jaxseg.cli.program import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
