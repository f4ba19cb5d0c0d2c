"""jaxseg league: every architecture, small, on the same data for the same steps; a table and a figure."""

import argparse
import gc
import json
from pathlib import Path

from jaxseg.checks import lookup
from jaxseg.files import write_text


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument(
        "--out", required=True, help="folder for league.md, league.json, league.png and one run per model"
    )
    parser.add_argument("--models", metavar="MODEL", nargs="+", help="of `jaxseg list models` (default: all)")
    parser.add_argument("--steps", type=int, default=300, help="training steps of each")
    parser.add_argument("--images", type=int, default=4, help="validation images to show")


def main(args: argparse.Namespace) -> int:
    """Trains the models one after the other; what is done already is not done again. Returns the exit status."""
    import jax

    from jaxseg.bench.league import VARIANTS, figure, measure, table
    from jaxseg.models import MODELS

    names = args.models or [name for name in MODELS if name not in VARIANTS]
    for name in names:
        lookup(MODELS, name, "model")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in names:
        rows.append(measure(name, out / name, args.steps))
        write_text(out / "league.md", table(rows))
        write_text(out / "league.json", json.dumps(rows, indent=1) + "\n")
        jax.clear_caches()
        gc.collect()
    figure([row["model"] for row in rows], out, args.images)
    print(table(rows))
    return 0
