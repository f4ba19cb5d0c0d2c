"""jaxseg bench: init, compile, forward and train-step time of a model, also beside PyTorch's."""

import argparse
import json
from pathlib import Path

from jaxseg.checks import UserError
from jaxseg.files import write_text


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    from jaxseg.bench.peers import PEERS

    parser.add_argument("--model", required=True, help="of `jaxseg list models`")
    parser.add_argument("--encoder", default="", help="of `jaxseg list encoders` (default: the architecture's own)")
    parser.add_argument(
        "--size", type=int, nargs="+", required=True, help="height and width in pixels, or one for both"
    )
    parser.add_argument("--batch", type=int, required=True, help="images per step")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the computation")
    parser.add_argument("--classes", type=int, default=21, help="of the head")
    parser.add_argument("--output-stride", type=int, help="of the encoder (default: the architecture's own)")
    parser.add_argument("--steps", type=int, default=10, help="how many are timed; figures are medians")
    parser.add_argument("--peer", choices=sorted(PEERS), help="also time the same model of this PyTorch library")
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")


def main(args: argparse.Namespace) -> int:
    """Measures, prints a table and JSON, and returns the exit status."""
    from jaxseg.bench.speed import measure, table
    from jaxseg.bench.timing import Case

    if len(args.size) > 2 or min(*args.size, args.batch, args.steps) < 1:
        raise UserError(
            f"Expected --size H W (or one number), --batch and --steps of at least 1, got --size {args.size}"
            f" --batch {args.batch} --steps {args.steps}."
        )
    if not 1 <= args.classes <= 255:
        raise UserError(f"Expected --classes from 1 to 255, as labels are bytes, got {args.classes}.")
    size = (args.size[0], args.size[-1])
    case = Case(args.model, args.encoder, size, args.batch, args.dtype, args.classes, args.output_stride)
    figures = measure(case, steps=args.steps, peer=args.peer)
    text = json.dumps(figures, indent=1)
    print(table(figures), text, sep="\n\n")
    if args.out:
        write_text(args.out, text + "\n")
    return 0
