"""jaxseg bundle: a trained model as a folder of weights and what they mean, to keep, to share and to predict with."""

import argparse

from jaxseg.cli import source


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    source.arguments(parser)
    parser.add_argument("--out", required=True, help="folder to write the bundle to")
    parser.add_argument("--note", help="a sentence on where the weights come from")
    parser.add_argument("--license", help="of the weights, as the hub names it: apache-2.0, cc-by-4.0, ...")
    parser.add_argument(
        "--no-golden",
        action="store_true",
        help="leave out the image that `jaxseg verify` compares; for which the model is compiled",
    )


def main(args: argparse.Namespace) -> int:
    """Writes the bundle and returns the exit status."""
    import dataclasses

    from jaxseg.models.parts import title

    trained = source.trained(args)
    given = {"source": args.note, "license": args.license}
    trained = dataclasses.replace(trained, **{name: value for name, value in given.items() if value})
    trained.save(args.out, with_golden=not args.no_golden)
    if trained.workdir and (trained.workdir / "crf.json").exists():
        print("note: crf.json of the run is not part of the bundle, which predicts without.")
    print(f"{title(trained.model)}, {len(trained.classes)} classes, {trained.source} -> {args.out}")
    return 0
