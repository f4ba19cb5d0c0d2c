"""jaxseg eval: the scores of a trained model on a split, as a table, scores.json and figures."""

import argparse
from typing import Any

from jaxseg.checks import UserError
from jaxseg.cli import source


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("model", metavar="MODEL", nargs="?", help=source.HELP)
    parser.add_argument("--workdir", metavar="MODEL", dest="flag", help="the same, as a flag")
    source.checkpoint(parser)
    source.data_arguments(parser)
    source.tiling_arguments(parser)
    parser.add_argument("--out", help="folder to write to (default: MODEL/eval/SPLIT)")
    parser.add_argument(
        "--metrics", metavar="NAME,NAME", type=_names, help="of `jaxseg list metrics` (default: the run's own)"
    )
    parser.add_argument(
        "--metric-option",
        metavar="METRIC.KEY=VALUE",
        action="append",
        default=[],
        help="config.eval.metric_options.METRIC.KEY for this evaluation: surface.spacing=0.8,1.4",
    )
    parser.add_argument(
        "--calibrate", choices=["temperature", "vector"], help="fit the probabilities to the split, then score"
    )
    parser.add_argument("--refine", choices=["crf", "guided"], help="refine predictions before scoring")
    parser.add_argument("--crf", dest="refine", action="store_const", const="crf", help="short for --refine crf")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _metric_options(given: list[str]) -> dict[str, dict[str, Any]]:
    """The options of metrics that the flags name, as a config has them."""
    from jaxseg.cli import settings
    from jaxseg.config import default_config

    pairs = [option.partition("=") for option in given]
    if any(not (equals and 0 < key.find(".") < len(key) - 1) for key, equals, _ in pairs):
        raise UserError(f"--metric-option must be METRIC.KEY=VALUE, such as surface.spacing=0.8,1.4; got {given}.")
    config = default_config()
    settings.apply(config, [(f"eval.metric_options.{key}", value) for key, _, value in pairs])
    return config.eval.metric_options.to_dict()


def main(args: argparse.Namespace) -> int:
    """Evaluates, and returns the exit status."""
    from jaxseg.evaluation.score import evaluate

    if (args.model is None) == (args.flag is None):
        raise UserError("Name one trained model: jaxseg eval MODEL, or --workdir MODEL.")
    args.model = args.model or args.flag
    trained = source.trained(args)
    dataset, split = source.data(args, trained)
    tta = (args.tta or "").replace(",", "_").replace(" ", "")
    ways = [split, *filter(None, (args.refine, args.tile and f"tile{args.tile}", tta))]
    out = source.out_folder(args, trained, f"eval/{'-'.join(ways)}")
    evaluate(
        trained,
        dataset,
        split,
        out=out,
        metric_names=args.metrics,
        metric_options=_metric_options(args.metric_option),
        calibrate=args.calibrate,
        refine=args.refine,
        strict=args.strict,
        **source.tiling(args),
    )
    return 0
