"""The command line: python -m jaxseg COMMAND, e.g. list, show, predict; without one it lists them."""

import argparse
import sys
from collections.abc import Sequence

from jaxseg.cli import launch
from jaxseg.cli.heap import keep_freed_memory


def _list(args):
    import jaxseg

    tables = {
        "models": jaxseg.MODELS,
        "encoders": jaxseg.ENCODERS,
        "losses": jaxseg.LOSSES,
        "metrics": jaxseg.metrics.METRICS,
        "datasets": jaxseg.DATASETS,
    }
    for kind, table in tables.items():
        print(f"{kind}:")
        width = max(map(len, table))
        for name, thing in table.items():
            print(f"  {name:{width}}  {_summary(thing)}")
    print("  tfds:NAME  any data set of tensorflow-datasets with a picture and a mask")


def _summary(thing):
    """The first line of the docstring of what a table holds (a partial is its function)."""
    text = (getattr(thing, "func", thing).__doc__ or "").strip()
    return text.splitlines()[0] if text else ""


def _show(args):
    from jaxseg.analysis import summary

    summary.run(args)


def _convert(args):
    from jaxseg.pretrained import command

    return command.run(args)


def _predict(args):
    from jaxseg.inference import files

    return files.run(args)


def _bench(args):
    from jaxseg.bench import speed as bench

    return bench.run(args)


def _receptive_field(args):
    from jaxseg.analysis import receptive_field

    return receptive_field.run(args)


def _attention(args):
    from jaxseg.analysis import attention

    return attention.run(args)


def _errors(args):
    from jaxseg.evaluation import survey as errors

    return errors.run(args)


def _losses(args):
    from jaxseg.analysis import loss_maps

    return loss_maps.run(args)


def _tune_crf(args):
    from jaxseg.evaluation import tune_crf

    return tune_crf.run(args)


def _league(args):
    from jaxseg.bench import league

    return league.run(args)


def _ablation(args):
    from jaxseg.bench import ablation

    return ablation.run(args)


def _parser(argv):
    """Builds the parser; a command's own arguments are imported only when it is asked for."""
    parser = argparse.ArgumentParser("jaxseg", description="Semantic segmentation for JAX.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    table = {
        "list": (_list, None, "everything that can be named: models, encoders, losses, data sets"),
        "show": (
            _show,
            "jaxseg.analysis.summary",
            "parameters, FLOPs, strides and memory of a config or model, by part",
        ),
        "convert": (_convert, "jaxseg.pretrained.command", "other libraries' weights as a bundle of jaxseg"),
        "predict": (
            _predict,
            "jaxseg.inference.files",
            "label and overlay PNGs of pictures, from a trained workdir or a bundle",
        ),
        "receptive-field": (
            _receptive_field,
            "jaxseg.analysis.receptive_field",
            "what of the picture a model's features and scores can see, and what they do see",
        ),
        "attention": (
            _attention,
            "jaxseg.analysis.attention",
            "where a trained model's attention blocks look in pictures",
        ),
        "errors": (_errors, "jaxseg.evaluation.survey", "where a trained model fails, on one page with pictures"),
        "losses": (
            _losses,
            "jaxseg.analysis.loss_maps",
            "what each loss says of right and wrong probabilities, and where it pushes; a picture",
        ),
        "tune-crf": (
            _tune_crf,
            "jaxseg.evaluation.tune_crf",
            "the CRF's widths and weights that score best on a split",
        ),
        "league": (_league, "jaxseg.bench.league", "train every architecture, small, on shapes; a table and a picture"),
        "ablation": (_ablation, "jaxseg.bench.ablation", "train a small U-Net with every loss by itself; a table"),
        "bench": (_bench, "jaxseg.bench.speed", "init, compile, forward and train-step time, also beside PyTorch"),
    }
    for name, (function, module, text) in table.items():
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        if module and name in argv[:1]:
            __import__(module)
            sys.modules[module].add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    keep_freed_memory()
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser(argv).parse_args(argv)
    return launch.guard(args.function, args)


if __name__ == "__main__":
    sys.exit(main())
