"""The raisers of user-facing errors: every message says what, expected, got and the remedy."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


class UserError(ValueError):
    """Something the user can mend; command-line programs print it without a traceback."""


class Interrupted(Exception):
    """A run stopped on request, after saving; `code` is the shell's exit status for the signal."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


def listing(values: Sequence[Any], limit: int = 5) -> str:
    """Joins the first `limit` values with commas and says how many more there are.

    >>> listing(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    rest = len(values) - limit
    return ", ".join(map(str, values[:limit])) + (f" and {rest} more" if rest > 0 else "")


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns "Did you mean 'x'? Known: a, b, …", the tail of every unknown-name message.

    >>> suggest("resnet5", ["resnet50", "vgg16"])
    "Did you mean 'resnet50'? Known: resnet50, vgg16."
    """
    known = sorted(known)
    return f"{closest(name, known)}Known: {', '.join(known) or 'none'}."


def closest(name: str, known: Iterable[str]) -> str:
    """Returns "Did you mean 'x'? ", or nothing where no known name is like `name`.

    >>> closest("lst", ["list", "show"])
    "Did you mean 'list'? "
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean '{close[0]}'? " if close else ""


def lookup(table: Mapping[str, Any], name: str, kind: str) -> Any:
    """Returns `table[name]`, or raises a `UserError` that names the nearest and all known names.

    >>> lookup({"unet": 1}, "unte", "model")
    Traceback (most recent call last):
    jaxseg.checks.UserError: Unknown model 'unte'. Did you mean 'unet'? Known: unet.
    """
    if name not in table:
        raise UserError(f"Unknown {kind} '{name}'. {suggest(name, table)}")
    return table[name]


def check_options(function: Callable, options: Mapping[str, Any], kind: str) -> None:
    """Raises a `UserError` when `options` holds a keyword that `function` does not take."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.name not in ("parent", "name", "self")]
    for option in options:
        if option not in known:
            raise UserError(f"Unknown option '{option}' of {kind}. {suggest(option, known)}")


def check_logits_and_labels(logits: Any, labels: Any, where: Any = None) -> None:
    """Checks, at trace time, that logits are [..., c] floats and labels and `where` share their leading shape."""
    import jax.numpy as jnp

    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise UserError(f"Logits must be floating point, got {logits.dtype}. Pass the scores before argmax.")
    check_labels(labels, where, "Logits", logits.shape)


def check_labels(labels: Any, where: Any, name: str, shape: tuple[int, ...]) -> None:
    """Checks, at trace time, that labels and `where` fit the scores `name` of `shape` [..., c]."""
    import jax.numpy as jnp

    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UserError(f"Labels must be integers, got {labels.dtype}. Pass class ids, not one-hot vectors.")
    if shape[:-1] != labels.shape:
        raise UserError(
            f"{name} {shape} and labels {labels.shape} disagree: expected labels of shape {shape[:-1]}, one class id a"
            f" pixel. Resize the {name.lower()} to the labels' size first."
        )
    if where is not None and where.shape != labels.shape:
        raise UserError(f"`where` has shape {where.shape}, expected the labels' {labels.shape}.")
