"""The flags that say what images a converted model takes, and what its labels are called."""

import argparse
import dataclasses
from typing import Any

from jaxseg.checks import UserError
from jaxseg.data.bands import DTYPES, Bands
from jaxseg.data.dataset import palette_colors
from jaxseg.data.preprocessing import Preprocessing


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `preprocessing` and `classes` read."""
    group = parser.add_argument_group("what its images and labels are (default: RGB of 8 bits, as its encoder expects)")
    group.add_argument("--bands", metavar="NAME,...", help="names of the bands, in their order")
    group.add_argument("--dtype", choices=DTYPES, default="uint8", help="of the stored values")
    group.add_argument(
        "--window",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="stored values that become 0 and 255; what lies beyond is clipped (needed unless uint8)",
    )
    group.add_argument("--mean", metavar="X,...", help="of each band, in stored values; subtracted")
    group.add_argument("--std", metavar="X,...", help="of each band, in stored values; what is left is divided by it")
    group.add_argument("--class-names", metavar="NAME,...", help="of the classes, in their order")
    group.add_argument("--license", default="", help="of the weights, as the hub names it: apache-2.0, ...")


def preprocessing(args: argparse.Namespace, default: Preprocessing) -> Preprocessing:
    """Returns the preprocessing that the flags say, `default` where they say nothing.

    Args:
      args: of the command line.
      default: of the model's own weights, for images of as many channels.
    """
    bands = default.bands
    if args.bands or args.window or args.dtype != bands.dtype:
        names = tuple(args.bands.split(",")) if args.bands else bands.names
        if len(names) != bands.count:
            raise UserError(f"--bands names {len(names)} bands, and the model takes {bands.count}.")
        if args.dtype != "uint8" and not args.window:
            raise UserError(
                f"--dtype {args.dtype} needs --window LOW HIGH: the stored values that become 0 and 255. Choose them so"
                " that none of yours lies beyond."
            )
        bands = Bands(names, args.dtype, tuple(args.window) if args.window else None)
    if (args.mean is None) != (args.std is None):
        raise UserError("Give --mean and --std, or neither.")
    statistics = {"mean": default.mean, "std": default.std}
    if args.mean is not None:
        low, high = (0.0, 255.0) if not args.window else args.window
        factor = 255 / (high - low)
        statistics["mean"] = tuple((x - low) * factor for x in _numbers("--mean", args.mean, bands.count))
        statistics["std"] = tuple(x * factor for x in _numbers("--std", args.std, bands.count))
        if not all(x > 0 for x in statistics["std"]):
            raise UserError(f"--std must be above 0, got {args.std}.")
    return dataclasses.replace(default, bands=bands, **statistics)


def classes(args: argparse.Namespace, num_classes: int | None) -> dict[str, Any]:
    """Returns the classes and the palette that the flags say, as `save_bundle` takes them; {} where they say nothing.

    Args:
      args: of the command line.
      num_classes: of the model, None of an encoder.
    """
    if not args.class_names:
        return {}
    names = args.class_names.split(",")
    if len(names) != num_classes:
        raise UserError(f"--class-names has {len(names)} names, and the model has {num_classes or 'no'} classes.")
    return {"classes": names, "palette": palette_colors(max(num_classes, 2))[-num_classes:]}


def _numbers(flag: str, text: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        raise UserError(f"{flag} must be numbers with commas between them, got '{text}'.") from None
    if len(numbers) != count:
        raise UserError(f"{flag} has {len(numbers)} numbers, and the model takes {count} bands.")
    return numbers
