"""jaxseg bundle: a trained model as a folder of weights and what they mean, to keep, to share and to predict with."""

import argparse

from jaxseg.cli import source


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    source.arguments(parser)
    parser.add_argument("--out", required=True, help="folder to write the bundle to")
    parser.add_argument("--note", help="a sentence on where the weights come from, and their license")


def main(args: argparse.Namespace) -> int:
    """Writes the bundle and returns the exit status."""
    import dataclasses

    from jaxseg.models.parts import title

    trained = source.trained(args)
    if args.note:
        trained = dataclasses.replace(trained, source=args.note)
    trained.save(args.out)
    left = [name for name in ("calibration.json", "crf.json") if trained.workdir and (trained.workdir / name).exists()]
    if left:
        print(f"note: {' and '.join(left)} of the run are not part of the bundle, which predicts without.")
    print(f"{title(trained.model)}, {len(trained.classes)} classes, {trained.source} -> {args.out}")
    return 0
