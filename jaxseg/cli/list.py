"""jaxseg list: names of models, encoders, losses, …, with the first line of their documentation."""

import argparse
import functools
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxseg.checks import lookup


def _configs() -> dict[str, str]:
    from jaxseg.cli.recipes import about, recipes

    return {name: about(path) for name, path in recipes().items()}


def _encoders() -> dict[str, str]:
    from jaxseg.encoders import ENCODERS
    from jaxseg.pretrained.weights import WEIGHTS

    names: dict[str, dict[str, None]] = {}
    for weights in WEIGHTS:
        names.setdefault(weights.encoder, {})[weights.name] = None
    weights = {encoder: f"{', '.join(known)} weights; " for encoder, known in names.items()}
    return {name: weights.get(name, "") + text for name, text in _abouts(ENCODERS).items()}


def _models() -> dict[str, str]:
    from jaxseg.models import MODELS

    return _abouts(MODELS)


def _losses() -> dict[str, str]:
    from jaxseg.losses import LOSSES

    return _abouts(LOSSES)


def _metrics() -> dict[str, str]:
    from jaxseg.metrics import METRICS

    return _abouts(METRICS)


def _datasets() -> dict[str, str]:
    from jaxseg.data import DATASETS

    return _abouts(DATASETS) | {"tfds:NAME": "any data set of tensorflow-datasets with an image and a mask"}


SECTIONS: dict[str, Callable[[], dict[str, str]]] = {
    "configs": _configs,
    "models": _models,
    "encoders": _encoders,
    "losses": _losses,
    "metrics": _metrics,
    "datasets": _datasets,
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument(
        "sections",
        metavar="SECTION",
        nargs="*",
        help=f"{', '.join(SECTIONS)}: these in full; all, a line each, if none; with --weights, encoders",
    )
    parser.add_argument(
        "--weights",
        action="store_true",
        help="the published weights that have a name: of which encoder, from where, license, size, score; * is on this"
        " machine",
    )


def main(args: argparse.Namespace) -> int:
    """Prints the sections and returns the exit status."""
    if args.weights:
        print(weights_table(args.sections))
        return 0
    columns = shutil.get_terminal_size().columns
    tables = {name: lookup(SECTIONS, name, "section") for name in args.sections or SECTIONS}
    for name, rows_of in tables.items():
        rows = rows_of()
        print(f"{name}:")
        print(table(rows, columns, whole=bool(args.sections)))
    return 0


def weights_table(encoders: Sequence[str] = ()) -> str:
    """Returns the published weights of encoders in columns, with a line below that counts them.

    Args:
      encoders: keys of `ENCODERS`; none are all.
    """
    from jaxseg.encoders import ENCODERS
    from jaxseg.pretrained.installed import installed
    from jaxseg.pretrained.weights import WEIGHTS

    for name in encoders:
        lookup(ENCODERS, name, "encoder")
    chosen = list(encoders or ENCODERS)
    rows = [("  name", "encoder or model", "source", "license", "MB", "top-1 %")]
    for encoder in chosen:
        for weights in (weights for weights in WEIGHTS if weights.encoder == encoder):
            rows.append(
                (
                    f"{'*' if installed(weights) else ' '} {weights.name}",
                    f"{encoder} of {weights.model}" if weights.model else encoder,
                    weights.source,
                    weights.license or "not stated",
                    "" if weights.megabytes is None else f"{weights.megabytes:g}",
                    "" if weights.top1 is None else f"{weights.top1:.1f}",
                )
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    without = [name for name in chosen if name not in {weights.encoder for weights in WEIGHTS}]
    said = f"{len(chosen) - len(without)} of {len(chosen)} encoders have a source."
    if without:
        said += f" Nobody has published weights of {', '.join(without)}: they are of jaxseg alone."
    scored = "; ".join(dict.fromkeys(weights.scored_by for weights in WEIGHTS if weights.scored_by))
    return "\n".join([*lines, "", said, f"* is on this machine. Top-1 on ImageNet-1k as stated by {scored}."])


def table(rows: Mapping[str, str], columns: int, *, whole: bool) -> str:
    """Returns names and texts in two columns.

    Args:
      rows: name -> text.
      columns: of the terminal; no line is longer.
      whole: go on in the next lines with a text that is too long, instead of cutting it.

    >>> print(table({"dice": "Soft Dice loss of the classes"}, 28, whole=True))
      dice  Soft Dice loss of
            the classes
    >>> print(table({"dice": "Soft Dice loss of the classes"}, 28, whole=False))
      dice  Soft Dice loss of …
    """
    width = max(map(len, rows))
    room = max(columns - width - 4, 16)
    lines = []
    for name, text in rows.items():
        first, *more = textwrap.wrap(text, room) or [""]
        if not whole:
            first, more = textwrap.shorten(text, room, placeholder=" …"), []
        lines += [f"  {name:{width}}  {first}".rstrip(), *(" " * (width + 4) + part for part in more)]
    return "\n".join(lines)


def _abouts(registry: Mapping[str, Any]) -> dict[str, str]:
    """Name -> the first line of the docstring; of a variant, what sets it apart first."""
    return {name: _about(thing) for name, thing in registry.items()}


def _about(thing: Any) -> str:
    fields = ", ".join(f"{key}={_short(value)}" for key, value in _options(thing).items())
    text = (getattr(thing, "func", thing).__doc__ or "").strip().partition("\n")[0]
    return f"{fields}: {text}" if fields else text


def _options(thing: Any) -> Mapping[str, Any]:
    """What an entry of a registry sets of the class or function that it stands for."""
    from jaxseg.models.parts import Architecture, Option
    from jaxseg.variants import Variant

    if isinstance(thing, Architecture):
        thing = next(iter(thing.parts.values()))
    if isinstance(thing, functools.partial):
        return thing.keywords
    options = thing.options if isinstance(thing, Variant) else {}
    return {name: value for name, value in options.items() if not isinstance(value, Option)}


def _short(value: Any) -> str:
    return str(value).replace(" ", "") if isinstance(value, tuple) else getattr(value, "__name__", str(value))
