"""jaxseg list: names of models, encoders, losses, …, with the first line of their documentation."""

import argparse
import functools
import shutil
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from jaxseg.checks import lookup


def _configs() -> dict[str, str]:
    from jaxseg.cli.recipes import about, recipes

    return {name: about(path) for name, path in recipes().items()}


def _encoders() -> dict[str, str]:
    from jaxseg.encoders import ENCODERS
    from jaxseg.pretrained.imagenet import PACKAGES

    weights = {name: "imagenet weights; " for packages in PACKAGES.values() for name in packages}
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
        help=f"{', '.join(SECTIONS)}: these in full; all, a line each, if none",
    )


def main(args: argparse.Namespace) -> int:
    """Prints the sections and returns the exit status."""
    columns = shutil.get_terminal_size().columns
    tables = {name: lookup(SECTIONS, name, "section") for name in args.sections or SECTIONS}
    for name, rows_of in tables.items():
        rows = rows_of()
        print(f"{name}:")
        print(table(rows, columns, whole=bool(args.sections)))
    return 0


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
