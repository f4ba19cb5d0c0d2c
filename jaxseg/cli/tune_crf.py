"""jaxseg tune-crf: searches the CRF's settings on a split and keeps the best in the run's crf.json."""

import argparse

from jaxseg.checks import UserError
from jaxseg.cli import source


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    source.arguments(parser)
    source.data_arguments(parser)
    parser.add_argument("--out", help="folder to write crf.json to (default: the run's)")
    parser.add_argument("--images", type=int, default=20, help="how many of the split, evenly spread; 0 is all")
    parser.add_argument("--trials", type=int, default=24, help="how many settings; the first is the config's own")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")


def main(args: argparse.Namespace) -> int:
    """Prints a row a trial, best first, and writes crf.json."""
    from jaxseg.evaluation.tune_crf import format_trials, tune_crf
    from jaxseg.experiment.log import progress_bar
    from jaxseg.files import check_writable, write_json
    from jaxseg.inference.refine import FILE

    if args.trials < 1 or args.images < 0:
        raise UserError(f"--trials must be at least 1 and --images 0, got {args.trials} and {args.images}.")
    trained = source.trained(args)
    dataset, split = source.data(args, trained)
    path = source.out_folder(args, trained, ".") / FILE
    check_writable(path.parent)
    counts = {"images": args.images, "trials": args.trials, "seed": args.seed}
    found, trials = tune_crf(trained, dataset, split, **counts, progress=progress_bar)
    print(format_trials(found["miou_without"], trials))
    write_json(path, found)
    print(
        f"mIoU {found['miou_without']:.4f} without, {found['miou']:.4f} with the best CRF, on {found['images']}"
        f" images of {split} -> {path}"
    )
    if found["miou"] <= found["miou_without"]:
        print("No setting helped: predict without --crf, or tune with more --trials.")
    return 0
