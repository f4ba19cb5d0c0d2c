"""jaxseg bench: time of a model, of a suite of models, of the loop and of single operations, also beside PyTorch's."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from jaxseg.checks import UserError
from jaxseg.files import write_text

if TYPE_CHECKING:
    from jaxseg.bench.cases import Case

EPILOG = """one of these says what is measured (docs/bench.md explains each):
  --model NAME --size H W --batch N   one model
  --suite cpu|gpu [--only CASE ...]   the cases of a table, one process each
  --case SUITE:NAME                   one case of these tables
  --loop [DIR]                        reading, the step and training on a folder
  --ops [--only OPERATION ...]        operations in several ways, side by side
  --compile-for FILE [--suite gpu]    programs for a GPU that is not here
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    from jaxseg.bench.cases import SUITES
    from jaxseg.bench.peers import PEERS

    parser.epilog = EPILOG
    parser.add_argument("--model", help="of `jaxseg list models`")
    parser.add_argument("--encoder", default="", help="of `jaxseg list encoders` (default: the architecture's own)")
    parser.add_argument("--size", type=int, nargs="+", help="height and width in pixels, or one for both")
    parser.add_argument("--batch", type=int, help="images per step")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the computation")
    parser.add_argument("--classes", type=int, default=21, help="of the head")
    parser.add_argument("--output-stride", type=int, help="of the encoder (default: the architecture's own)")
    parser.add_argument("--suite", choices=sorted(SUITES), help="measure these cases, one process each")
    parser.add_argument("--only", metavar="CASE", nargs="+", default=[], help="of the suite, these alone")
    parser.add_argument("--case", metavar="SUITE:NAME", help="measure one case of a suite, in this process")
    parser.add_argument(
        "--loop",
        metavar="DIR",
        nargs="?",
        const="",
        help="time the loop on this folder of images; without DIR, on one that is made for it",
    )
    parser.add_argument("--ops", action="store_true", help="time operations, jaxseg's way beside others")
    parser.add_argument("--workers", type=int, default=0, help="with --loop: processes that read")
    parser.add_argument("--threads", type=int, default=0, help="with --loop: threads that read; 0 is one per core")
    parser.add_argument(
        "--compile-for",
        metavar="FILE",
        help='read the programs that a GPU would run: a file that describes one, or "h100"',
    )
    parser.add_argument("--forward", action="store_true", help="time one model's forward pass alone, without training")
    parser.add_argument("--steps", type=int, default=10, help="how many are timed; figures are medians")
    parser.add_argument("--peer", choices=sorted(PEERS), help="also time the same model of this PyTorch library")
    parser.add_argument("--out", type=Path, help="write the figures there as JSON; of a suite, a folder")


def main(args: argparse.Namespace) -> int:
    """Measures, prints a table and JSON, and returns the exit status."""
    _check(args)
    if args.compile_for:
        return _compile_for(args)
    if args.loop is not None:
        return _loop(args)
    if args.ops:
        return _ops(args)
    if args.peer:
        from jaxseg.bench.speed import share_the_device

        share_the_device()
    if args.suite:
        return _suite(args)
    return _one(args)


def _check(args: argparse.Namespace) -> None:
    """Raises for flags that do not go together, and for impossible numbers."""
    what = [flag for flag in ("model", "suite", "case") if getattr(args, flag)]
    how = [
        flag for flag in ("loop", "ops", "compile-for") if getattr(args, flag.replace("-", "_")) not in (None, False)
    ]
    if len(what) > 1 or len(how) > 1 or not what + how:
        got = " and ".join(f"--{flag}" for flag in what + how) or "none"
        known = "--model, --suite, --case, --loop, --ops and --compile-for"
        raise UserError(f"Say what to measure: one of {known}, got {got}.")
    if args.model and (args.size is None or args.batch is None):
        raise UserError(f"--model {args.model} needs --size H W (or one number) and --batch N.")
    if args.only and not (args.suite or {"compile-for", "ops"} & set(how)):
        raise UserError("--only chooses cases of a suite, or operations. Give --suite or --ops, too.")
    if args.forward and (how or args.suite or args.peer):
        raise UserError("--forward times one model, without a peer. Give --model or --case alone.")
    size = args.size or [1]
    if len(size) > 2 or min(*size, 1 if args.batch is None else args.batch, args.steps) < 1:
        raise UserError(
            f"Expected --size H W (or one number), --batch and --steps of at least 1, got --size {args.size}"
            f" --batch {args.batch} --steps {args.steps}."
        )
    if not 1 <= args.classes <= 255:
        raise UserError(f"Expected --classes from 1 to 255, as labels are bytes, got {args.classes}.")


def _case(args: argparse.Namespace) -> "Case":
    """The one case that the flags describe or name."""
    from jaxseg.bench.cases import Case, find_case, smaller

    if args.case:
        return smaller(find_case(args.case), size=args.size and args.size[0], batch=args.batch)
    size = (args.size[0], args.size[-1])
    return Case(args.model, args.encoder, size, args.batch, args.dtype, args.classes, args.output_stride)


def _one(args: argparse.Namespace) -> int:
    """Measures one case in this process."""
    from jaxseg.bench.speed import measure, measure_forward
    from jaxseg.bench.tables import table

    case, steps = _case(args), args.steps
    figures = measure_forward(case, steps=steps) if args.forward else measure(case, steps=steps, peer=args.peer)
    text = json.dumps(figures, indent=1)
    print(table(figures), text, sep="\n\n")
    if args.out:
        write_text(args.out, text + "\n")
    return 0


def _suite(args: argparse.Namespace) -> int:
    """Measures the cases of a suite; the exit status is 1 if one of them failed."""
    from jaxseg.bench.suite import run_suite

    if (args.size is None) != (args.batch is None):
        raise UserError("--size and --batch together replace those of every case of a suite, to rehearse.")
    shrink = (args.size[0], args.batch) if args.size else None
    out = args.out or Path(f"bench-{args.suite}")
    print(f"Rows go to {out}; the same command again goes on where this one stops.", flush=True)
    failed = run_suite(args.suite, out, steps=args.steps, peer=args.peer, only=args.only, shrink=shrink)
    return int(failed > 0)


def _loop(args: argparse.Namespace) -> int:
    """Times the loop of training on a folder; without another case, that of U-Net / ResNet-34."""
    import jax

    from jaxseg.bench.loop import measure_loop, text

    if args.suite or args.peer:
        raise UserError("--loop measures one model without a peer: leave --suite and --peer out.")
    if not (args.model or args.case):
        args.case = f"{'gpu' if jax.default_backend() == 'gpu' else 'cpu'}:unet_r34"
    if args.loop == "":
        print("No folder is given: JPEG files are made for it, and removed.", flush=True)
    options = {"steps": args.steps, "workers": args.workers, "threads": args.threads}
    found = measure_loop(_case(args), args.loop or None, **options)
    print(text(found), json.dumps(found, indent=1), sep="\n\n")
    if args.out:
        write_text(args.out, json.dumps(found, indent=1) + "\n")
    return 0


def _ops(args: argparse.Namespace) -> int:
    """Times operations in several ways; rows go to the folder --out as they come."""
    from jaxseg.bench.ops_convolutions import CONVOLUTIONS
    from jaxseg.bench.ops_others import OTHERS
    from jaxseg.bench.speed import share_the_device
    from jaxseg.bench.timing import machine
    from jaxseg.bench.ways import compare, markdown, usual_scale, write_row
    from jaxseg.checks import lookup

    share_the_device()
    known = {**CONVOLUTIONS, **OTHERS}
    chosen = [lookup(known, name, "operation") for name in args.only or known]
    rows, scale, here = [], usual_scale(args.batch), machine()
    for make in chosen:
        for row in (row for comparison in make(scale) for row in compare(comparison)):
            told = row.get("error") or f"{row['ms']:.3f} ms"
            print(f"{row['case']}: {row['way']}: {told}", flush=True)
            if args.out:
                write_row(args.out / "ops.jsonl", {**row, "machine": here})
            rows.append(row)
    print(
        f"\nOn {here['device']}, jax {here['jax']}, load {here['load']:.1f} at the start.", markdown(rows), sep="\n\n"
    )
    if args.out:
        write_text(args.out / "ops.md", markdown(rows))
    return 0


def _compile_for(args: argparse.Namespace) -> int:
    """Compiles training steps for a GPU that is not here; rows go to the folder --out as they come."""
    from jaxseg.bench.cases import SUITES, smaller
    from jaxseg.bench.compile_for import compile_cases, markdown
    from jaxseg.bench.targets import find_target
    from jaxseg.bench.ways import write_row
    from jaxseg.checks import lookup

    if args.peer:
        raise UserError("--compile-for measures nothing: leave --peer out.")
    target = find_target(args.compile_for)
    if args.model or args.case:
        case = _case(args)
        cases = {case.title(): case}
    else:
        known = SUITES[args.suite or "gpu"]
        cases = {name: lookup(known, name, "case") for name in args.only or known}
        cases = {name: smaller(case, size=args.size and args.size[0], batch=args.batch) for name, case in cases.items()}
    rows = []
    for row in compile_cases(cases, target):
        print(f"{row['title']}: {row['kernels']} kernels, {row['bytes'] / 1e9:.1f} GB", flush=True)
        if args.out:
            write_row(args.out / "programs.jsonl", row)
        rows.append(row)
    print("", markdown(rows, target), sep="\n")
    if args.out:
        write_text(args.out / "programs.md", markdown(rows, target))
    return 0
