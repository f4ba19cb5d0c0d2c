"""The raisers of user-facing errors: every message says what, expected, got and the remedy."""

import difflib
import inspect
import numbers
import types
import typing
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


class UserError(ValueError):
    """Something the user can mend; command-line programs print it without a traceback."""


class Unreadable(UserError):
    """A file of a data set that does not read; the others may.

    Args:
      what: is wrong with it.
      remedy: in a data set; whoever has the file from elsewhere says another.

    >>> error = Unreadable("a.png does not read.", "Remove it with its label.")
    >>> error.what, str(error)
    ('a.png does not read.', 'a.png does not read. Remove it with its label.')
    """

    def __init__(self, what: str, remedy: str = ""):
        super().__init__(f"{what} {remedy}" if remedy else what)
        self.what = what


class TooLarge(Unreadable):
    """A file of more pixels than are read at a time."""


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


def percent(share: float) -> str:
    """Returns a share, 0 to 1, in percent: small ones too, and never with an exponent.

    >>> percent(0.000812), percent(0.1234), percent(0.9968)
    ('0.081 %', '12.3 %', '99.7 %')
    """
    whole = 100 * share
    if whole >= 9.95:
        return f"{whole:.3g} %"
    return f"{whole:.2g} %" if whole >= 1e-4 or not whole else "<0.0001 %"


def printable(text: str) -> str:
    """Returns a text whose control characters are escaped, so that it steers no terminal; lines stay lines.

    What stands for bytes that are no text, in names of files, is escaped too.

    >>> print(printable("road" + chr(27) + "[2J"))
    road\\x1b[2J
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not _steers(c) else c.encode("unicode_escape").decode() for c in text)


def _steers(letter: str) -> bool:
    """Whether a letter is a control character, reverses the order of others, or is no letter at all."""
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in _REVERSING


_REVERSING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def suggest(name: str, known: Iterable[str]) -> str:
    """Returns "Did you mean 'x'? Known: a, b, …", the tail of every unknown-name message.

    >>> suggest("resnet5", ["resnet50", "vgg16"])
    "Did you mean 'resnet50'? Known: resnet50, vgg16."
    """
    known = sorted(known)
    return f"{closest(name, known)}Known: {', '.join(known) or 'none'}."


def closest(name: str, known: Iterable[str]) -> str:
    """Returns "Did you mean 'x'? ", or nothing where no known name is like `name`.

    A name that differs by capitals, hyphens or underscores alone is the nearest, as other libraries spell it.

    >>> closest("lst", ["list", "show"]), closest("MAnet", ["unet", "manet"])
    ("Did you mean 'list'? ", "Did you mean 'manet'? ")
    """
    known = list(known)
    same = [one for one in known if plain_name(one) == plain_name(name)]
    close = same or difflib.get_close_matches(name, known, n=1)
    return f"Did you mean '{close[0]}'? " if close else ""


def plain_name(name: str) -> str:
    """Returns a name in lower case, without hyphens and underscores.

    >>> plain_name("Efficientnet-B0") == plain_name("efficientnet_b0")
    True
    """
    return name.lower().replace("-", "").replace("_", "")


def lookup(table: Mapping[str, Any], name: str, kind: str) -> Any:
    """Returns `table[name]`, or raises a `UserError` that names the nearest and all known names.

    >>> lookup({"unet": 1}, "unte", "model")
    Traceback (most recent call last):
    jaxseg.checks.UserError: Unknown model 'unte'. Did you mean 'unet'? Known: unet.
    """
    if not isinstance(name, str):
        raise UserError(f"Expected the name of a known {kind}, got {name!r}. Known: {', '.join(table)}.")
    if name not in table:
        raise UserError(f"Unknown {kind} '{name}'. {suggest(name, table)}")
    return table[name]


def check_options(function: Callable, options: Mapping[str, Any], kind: str, *, beside: Iterable[str] = ()) -> None:
    """Raises a `UserError` when `options` holds a keyword that `function` does not take, or a value of another type.

    Args:
      function: its annotations say what it takes.
      options: its keywords.
      kind: what the function is, for messages: "model 'unet'".
      beside: further keywords that the user may give, whose values are checked elsewhere; for messages.

    >>> check_options(lambda *, size=1: None, {"sise": 2}, "data set 'a'")
    Traceback (most recent call last):
    jaxseg.checks.UserError: Unknown option 'sise' of data set 'a'. Did you mean 'size'? Known: size.
    """
    parameters = inspect.signature(function).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [name for name in parameters if name not in ("parent", "name", "self")]
    told = sorted({*known, *beside})
    for option, value in options.items():
        if option not in known and not anything:
            raise UserError(f"Unknown option '{option}' of {kind}. {suggest(option, told)}")
        parameter = parameters.get(option)
        if parameter is not None and not fits(value, parameter.annotation):
            default = parameter.default
            example = "" if default in (parameter.empty, None) else f" such as {default!r}"
            raise UserError(
                f"The option '{option}' of {kind} must be {_kind_name(parameter.annotation)}{example}, got {value!r}."
            )


def check_numbers(options: Mapping[str, Any], kind: str, *, from_zero: Iterable[str] = ()) -> None:
    """Raises a `UserError` for the first number, alone or in a tuple, that is out of the range of what it counts.

    Whole numbers count something and are at least 1, others are above 0; `dropout`, `drop_path` and `momentum` are 0
    to 1.

    Args:
      options: keywords, of the right types (see `check_options`).
      kind: whose they are, for messages: "model 'unet'".
      from_zero: keywords whose whole numbers may be 0.

    >>> check_numbers({"widths": (8, 0)}, "encoder 'plain'")
    Traceback (most recent call last):
    jaxseg.checks.UserError: The option 'widths' of encoder 'plain' must hold whole numbers of at least 1, got (8, 0).
    """
    for option, value in options.items():
        several = isinstance(value, tuple | list)
        for number in value if several else (value,):
            if not isinstance(number, numbers.Real) or isinstance(number, bool):
                continue
            whole, least = isinstance(number, numbers.Integral), 0 if option in from_zero else 1
            if option in ("dropout", "drop_path", "momentum"):
                good, wanted = 0 <= number <= 1, "number from 0 to 1"
            elif whole and option != "scales":
                good, wanted = number >= least, f"whole number of at least {least}"
            else:
                good, wanted = number > 0, "number above 0"
            if not good:
                be = f"hold {wanted.replace('number', 'numbers', 1)}" if several else f"be a {wanted}"
                raise UserError(f"The option '{option}' of {kind} must {be}, got {value!r}.")


def check_distinct(option: str, values: Sequence[Any], *, least: int = 0) -> None:
    """Raises a `UserError` unless there are `least` values or more, and none twice: each has a layer of its own.

    >>> check_distinct("bins", (1, 2, 2))
    Traceback (most recent call last):
    jaxseg.checks.UserError: `bins` must hold no number twice, got (1, 2, 2).
    """
    if len(set(values)) < len(values):
        raise UserError(f"`{option}` must hold no number twice, got {tuple(values)}.")
    if len(values) < least:
        raise UserError(f"`{option}` must hold at least {least} number, got {tuple(values)}.")


def fits(value: Any, kind: Any) -> bool:
    """Says whether a value is of a type, as far as the type is one that a config's values have.

    >>> fits(1, float), fits("1", float), fits([1, 2], tuple[int, ...]), fits(True, int), fits(None, int | None)
    (True, False, True, False, True)
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin in (tuple, list, Sequence):
        if not isinstance(value, tuple | list):
            return hasattr(value, "shape")  # an array
        rest = arguments[:1] if origin is not tuple or arguments[1:] == (...,) else None
        wanted = rest * len(value) if rest is not None else arguments
        return len(wanted) == len(value) and all(fits(v, k) for v, k in zip(value, wanted, strict=True))
    if kind in (int, float):
        numeric = numbers.Integral if kind is int else numbers.Real
        return (isinstance(value, numeric) and not isinstance(value, bool)) or hasattr(value, "shape")
    if kind in (bool, str, type(None)):
        return isinstance(value, kind)
    return True


def _kind_name(kind: Any) -> str:
    """A type in words, for messages."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind_name(one) for one in arguments)
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", type(None): "None"}
    if origin in (tuple, list, Sequence) and arguments:
        of = {int: "whole numbers", float: "numbers", str: "texts"}.get(arguments[0], "values")
        count = "" if origin is not tuple or arguments[1:] == (...,) else f"{len(arguments)} "
        return f"a tuple of {count}{of}"
    return names.get(kind, str(kind))


def check_logits_and_labels(logits: Any, labels: Any, where: Any = None, *, least: int = 2) -> None:
    """Checks, at trace time, that logits are [..., c] floats and labels and `where` share their leading shape.

    Args:
      logits: scores of the classes.
      labels: class ids.
      where: valid pixels, or None.
      least: number of classes; a softmax of one is 1 everywhere, and so teaches nothing.
    """
    import jax.numpy as jnp

    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise UserError(f"Logits must be floating point, got {logits.dtype}. Pass the scores before argmax.")
    check_labels(labels, where, "Logits", logits.shape)
    if logits.shape[-1] < least:
        raise UserError(
            f"Logits {logits.shape} are of one class, whose softmax is 1 everywhere: there is nothing to learn. Use a"
            " loss of sigmoids (binary_cross_entropy, sigmoid_dice, ...), or logits of two classes."
        )


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
