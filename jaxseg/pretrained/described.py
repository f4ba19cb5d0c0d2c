"""Modules that a file describes, which may be a stranger's: made, or refused soon and in little memory."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn

from jaxseg.checks import UserError
from jaxseg.files import short

GREATEST = 8192  # of the whole numbers among options: more channels than any architecture has
LONGEST, DEEPEST = 256, 4  # of lists and objects among options


@contextlib.contextmanager
def making(path: str | Path, arrays: int) -> Iterator[None]:
    """Turns whatever goes wrong while the block makes and traces a module into a `UserError`.

    A module of far more layers than there are arrays to fill them would be traced for hours; it is given up.

    Args:
      path: of the file that describes the module, for messages.
      arrays: how many the file's weights have.
    """
    left = 200 + 8 * arrays  # 2 calls an array at the most, by an image pyramid

    def count(method: Callable[..., Any], args: tuple, kwargs: dict[str, Any], context: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise UserError(f"it has far more layers than the {arrays} arrays of the weights can fill")
        return method(*args, **kwargs)

    try:
        with nn.intercept_methods(count):
            yield
    except UserError as error:
        text = str(error).rstrip(".")
        raise UserError(f"{path} describes no model that can be made: {text}.") from None
    except Exception as error:  # whatever a wrong option makes a module, Flax or JAX raise
        text = (str(error).strip().splitlines() or ["no message"])[0][:300]
        raise UserError(
            f"{path} describes no model that can be made: {type(error).__name__}: {text}. Copy the file again, or"
            " write it anew."
        ) from error


def check_values(options: Any, path: str | Path, name: str, depth: int = 0) -> None:
    """Raises a `UserError` for options that no module of jaxseg has: giant numbers, endless lists, deep nesting.

    Args:
      options: the value of one or an object of many, as JSON has them.
      path: of the file.
      name: of `options`, in messages.
      depth: of `options` among options.
    """
    if isinstance(options, Mapping | list | tuple):
        fits = len(options) <= LONGEST and depth < DEEPEST
    elif isinstance(options, float):
        fits = math.isfinite(options)
    else:
        fits = not isinstance(options, int) or abs(options) <= GREATEST
    if not fits:
        raise UserError(
            f"{path}: the option '{name}' is {short(options)}, which no model has: at most {GREATEST}, {LONGEST}"
            f" entries and {DEEPEST} levels. Copy the file again, or write it anew."
        )
    if isinstance(options, Mapping):
        for key, value in options.items():
            check_values(value, path, f"{name}.{key}", depth + 1)
    elif isinstance(options, list | tuple):
        for value in options:
            check_values(value, path, name, depth + 1)
