"""jaxseg data: what a data set holds and what is wrong with it (check), and its statistics (stats)."""

import argparse
import json
import re
from typing import TYPE_CHECKING, Any

from jaxseg.checks import UserError, printable
from jaxseg.cli.program import Parser

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from jaxseg.data import Dataset
    from jaxseg.data.check import Look, Problem

EPILOG = """examples:
  jaxseg data check DIR --html sheet.html
  jaxseg data check DIR --option window=0,4095 --option label_suffix=_mask
  jaxseg data check DIR --config shapes_unet --config.data.canvas=512,512
  jaxseg data stats DIR > statistics.json
"""


def arguments(parser: Parser) -> None:
    """Adds the flags of the command."""
    parser.epilog, parser.takes_settings, parser.intermixed = EPILOG, True, True
    parser.add_argument(
        "action",
        choices=["check", "stats"],
        metavar="check|stats",
        help="check: read all and say what is there and what is wrong; stats: window, mean, deviation, weights as JSON",
    )
    parser.add_argument("root", metavar="ROOT", nargs="?", default="", help="the folder of the data")
    parser.add_argument("--data", metavar="NAME", help="of `jaxseg list datasets` (default: folder, or the config's)")
    parser.add_argument(
        "--option", metavar="KEY=VALUE", action="append", default=[], help="of the data set: config.data.options.KEY"
    )
    parser.add_argument("--config", metavar="CONFIG", help="a recipe or a file: check with its canvas, crop and batch")
    parser.add_argument("--config.KEY", metavar="VALUE", dest="_", help="any setting of the config")
    parser.add_argument("--split", help="of the data (default: all for check, data.train_split for stats)")
    parser.add_argument("--html", metavar="OUT", help="of check: write a page with images and labels, too")


def main(args: argparse.Namespace) -> int:
    """Looks at the data and returns the exit status: 1 if something is wrong."""
    config = _config(args)
    return check(config, args) if args.action == "check" else stats(config, args)


def check(config: "ConfigDict", args: argparse.Namespace) -> int:
    """Prints the report of a data set."""
    from jaxseg.data import report, suggest, verdict

    dataset, problems, suggestion = _open(config)
    if dataset is None:
        print(f"error: {printable(problems[0].sentence)}\n\n1 error, 0 warnings")
        return 1
    c = config.data
    names = [args.split] if args.split else sorted(dataset.splits, key=lambda name: (name != c.train_split, name))
    looks = [_look(dataset, name, config) for name in names]
    setting = verdict.Setting()
    if args.config or args.settings:
        from jaxseg.experiment.inputs import make_resize
        from jaxseg.experiment.limits import check_config

        try:
            check_config(config)
        except UserError as error:
            problems.append(_problem("config", error))
        setting = verdict.Setting(make_resize(config), tuple(c.canvas), tuple(c.crop), c.batch_size)
    found = verdict.judge(dataset, looks, setting)
    if found.errors and c.name == "folder" and not suggestion:
        suggestion = suggest.suggest_values(dataset)
    found = verdict.with_more(found, problems, {"classes.json": suggestion} if suggestion else {})
    print(printable(report.text(found)))
    if args.html:
        from jaxseg.files import write_text
        from jaxseg.visualize.data_page import page

        write_text(args.html, page(found, title=c.root or c.name))
        print(f"-> {args.html}")
    return 1 if found.errors else 0


def stats(config: "ConfigDict", args: argparse.Namespace) -> int:
    """Prints window, mean and deviation of every band, the shares of the classes, and weights, as JSON."""
    from jaxseg.data.verdict import statistics

    dataset, problems, _ = _open(config)
    if dataset is None or problems:
        raise UserError(problems[0].sentence)
    seen = _look(dataset, args.split or config.data.train_split, config)
    if seen.problems or not seen.facts:
        raise UserError(seen.problems[0].sentence if seen.problems else f"Split '{seen.split}' is empty.")
    text = json.dumps(statistics(dataset, seen), indent=1)
    # A list of numbers is a line.
    print(re.sub(r"\[[^\[\]]*\]", lambda found: f"[{', '.join(json.dumps(v) for v in json.loads(found[0]))}]", text))
    return 0


def _config(args: argparse.Namespace) -> "ConfigDict":
    """The config that the flags describe; only its data matter, where none is named."""
    from jaxseg.cli import recipes, settings
    from jaxseg.config import default_config

    config = recipes.load(args.config) if args.config else default_config()
    name = args.data or ("folder" if args.root or not args.config else config.data.name)
    if name != config.data.name:
        settings.apply(config, [("data.name", name)])
    config.data.root = args.root or config.data.root
    pairs = [option.partition("=") for option in args.option]
    if any(not (key and equals) for key, equals, _ in pairs):
        raise UserError(f"--option must be KEY=VALUE, as in --option num_classes=2; got {args.option}.")
    settings.apply(config, [(f"data.options.{key}", value) for key, _, value in pairs])
    settings.apply(config, args.settings)
    return config


def _open(config: "ConfigDict") -> tuple["Dataset | None", list["Problem"], dict[str, Any] | None]:
    """The data set, what keeps it from being opened, and a classes.json where there is none."""
    from jaxseg.data import check_options_are_its_own, create_dataset, suggest

    c = config.data
    check_options_are_its_own(c.options.to_dict())
    options, problems, document = c.options.to_dict(), [], None
    for _ in range(3):  # each of the two things that are guessed at is guessed once
        try:
            dataset = create_dataset(
                c.name, c.root, label_offset=c.label_offset, label_ignore=tuple(c.label_ignore), **options
            )
        except UserError as error:
            problems.append(_problem(c.root or c.name, error))
            more = suggest.options_for(c.root, str(error)) if c.name == "folder" else {}
            if not more or more.items() <= options.items():
                return None, problems, None
            options |= more
            continue
        if options.get("num_classes") == suggest.placeholder_options()["num_classes"]:
            document = suggest.suggest_classes(dataset)
            return (suggest.with_classes(dataset, document) if document else None), problems, document
        return dataset, problems, None
    return None, problems, None


def _look(dataset: "Dataset", split: str, config: "ConfigDict") -> "Look":
    from jaxseg.checks import lookup
    from jaxseg.data.check import look
    from jaxseg.experiment.log import progress_bar

    lookup(dataset.splits, split, "split")
    return look(
        dataset,
        split,
        threads=config.data.threads,
        progress=lambda facts, total: progress_bar(facts, total=total, desc=split, unit="image", leave=False),
    )


def _problem(where: str, error: UserError) -> "Problem":
    from jaxseg.data.check import Problem

    return Problem(where, str(error))
