"""jaxseg ablation: every loss by itself, on the same small U-Net and data; a table of what each does."""

import argparse
import gc
import json
from pathlib import Path

from jaxseg.checks import lookup
from jaxseg.files import write_text


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("--out", required=True, help="folder for ablation.md, ablation.json and one run per loss")
    parser.add_argument("--losses", metavar="LOSS", nargs="+", help="names, or sums as in a+b (default: all)")
    parser.add_argument("--steps", type=int, default=300, help="training steps of each")


def main(args: argparse.Namespace) -> int:
    """Trains with one loss after the other; what is done already is not done again. Returns the exit status."""
    import jax

    from jaxseg.bench import speed
    from jaxseg.bench.ablation import COMBINED, SHAPE, measure, rarest_class, seconds, table
    from jaxseg.bench.cases import Case
    from jaxseg.losses import LOSSES

    names = args.losses or [*LOSSES, *COMBINED]
    for name in names:
        for term in name.split("+"):
            lookup(LOSSES, term, "loss")
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    case = Case("unet", "resnet34", SHAPE[1:3], SHAPE[0], classes=SHAPE[3])
    step = speed.measure(case, steps=5)["jaxseg"]["step_s"]
    rarest = rarest_class()
    rows = []
    for name in names:
        alone, reference = seconds(name)
        rows.append(
            {"loss": name, **measure(name, rarest, out / name, args.steps), "overhead": (alone - reference) / step}
        )
        write_text(out / "ablation.md", table(rows, rarest))
        write_text(out / "ablation.json", json.dumps(rows, indent=1) + "\n")
        jax.clear_caches()
        gc.collect()
    print(table(rows, rarest))
    return 0
