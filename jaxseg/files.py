"""Whole files or none: what is written here is never seen half done, not even after a kill.

What is read here may be a stranger's: a JSON file is checked entry by entry, and what is wrong is said.
"""

import contextlib
import itertools
import json
import math
import os
import reprlib
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.checks import UserError

LARGEST = 2**24  # bytes of a JSON file that is read; as objects it takes twenty times that


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    Folders above `path` are made. After an error the file that was there before is still whole.

    Args:
      path: of the file to write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Hidden, of this process alone, not longer than a name may be, and of the kind of file that its ending says.
    stem = os.fsdecode(os.fsencode(path.stem)[:180])
    part = path.with_name(f".{stem}.{os.getpid()}.part{path.suffix}")
    with contextlib.suppress(OSError):  # a link of that name, in a stranger's folder, would be written through
        part.unlink(missing_ok=True)
    try:
        yield part
        part.replace(path)
    except OSError as error:
        if error.filename not in (None, str(part)):
            raise
        # A full disk names no file, and the part says nothing to a reader.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # a read-only disk refuses even what is not there
            part.unlink(missing_ok=True)


def check_writable(folder: str | Path) -> None:
    """Makes a folder, and raises the system's `OSError` where no file can be written to it.

    For commands that write at their end what took them hours.

    Args:
      folder: that will be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:  # of a file whose name says nothing to a reader
        raise OSError(error.errno, error.strerror, str(folder)) from error


def set_aside(path: str | Path) -> Path:
    """Gives a file a name that no file has, `metrics.1.jsonl` for `metrics.jsonl`, and returns it."""
    path = Path(path)
    number = next(n for n in itertools.count(1) if not path.with_name(f"{path.stem}.{n}{path.suffix}").exists())
    return path.rename(path.with_name(f"{path.stem}.{number}{path.suffix}"))


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` to `path` in UTF-8, whole or not at all; a name of a file that is no UTF-8 is escaped."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | Path, value: Any, *, default: Callable[[Any], Any] | None = None) -> None:
    """Writes `value` to `path` as JSON, indented by one space, whole or not at all.

    Args:
      path: of the file to write.
      value: what `json` can hold, and NumPy's arrays and numbers in it; nan and infinities, which JSON has not, are
        written as null.
      default: makes of an object that `json` does not know one that it knows.
    """
    write_text(path, json.dumps(_plain(value), indent=1, default=default, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_text(path: str | Path, *, largest: int = LARGEST, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Returns the text of a file, whoever made it.

    Args:
      path: of the file, or of a link to one.
      largest: bytes that it may have.
      encoding: of the text.
      errors: what becomes of bytes that are no text, as `bytes.decode` has it.

    Raises:
      ValueError: it is a pipe, a device or a folder, which may never end; it is too large; or it is no text.
    """
    path = Path(path)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is a pipe, a device or a folder, and not a file")
    if status.st_size > largest:
        raise ValueError(f"it has more than {largest // 2**20} MiB")
    return path.read_text(encoding=encoding, errors=errors)


def read_json(path: str | Path, remedy: str = "Copy it again.") -> dict[str, Any]:
    """Returns the object that a JSON file holds, whoever wrote it.

    Args:
      path: of the file.
      remedy: what to do if it can't be read, a sentence.

    Raises:
      UserError: it is no JSON, no object, nested too deep or too large.
    """
    path = Path(path)
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} can't be read: {error}. {remedy}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} can't be read: it holds a {type(found).__name__}, expected an object. {remedy}")
    return found


_REQUIRED = object()


class Fields:
    """The entries of a JSON file, each checked when it is taken.

    Args:
      values: what `read_json` returned, or an object in it.
      path: of the file, for messages.
      remedy: what to do about a wrong entry, a sentence.
      inside: the name of the object in the file, for messages.

    >>> fields = Fields({"ignore": "no"}, "dataset.json", "Train again.")
    >>> fields.take("ignore", is_whole(0, 255), "a whole number from 0 to 255")
    Traceback (most recent call last):
    jaxseg.checks.UserError: dataset.json: 'ignore' must be a whole number from 0 to 255, got 'no'. Train again.
    """

    def __init__(self, values: Mapping[str, Any], path: str | Path, remedy: str, inside: str = ""):
        self.values, self.path, self.remedy, self.inside = values, path, remedy, inside

    def take(self, name: str, fits: Callable[[Any], bool], expected: str, default: Any = _REQUIRED) -> Any:
        """Returns an entry, or `default` where it is missing and there is one.

        Args:
          name: of the entry.
          fits: says of the value whether it may be used.
          expected: what it must be, for the message.
          default: need not fit.
        """
        if name not in self.values and default is not _REQUIRED:
            return default
        value = self.values.get(name)
        if not fits(value):
            got = short(value) if name in self.values else "no such entry"
            raise UserError(f"{self.path}: '{self.inside}{name}' must be {expected}, got {got}. {self.remedy}")
        return value

    def group(self, name: str) -> "Fields":
        """Returns the entries of an object in the file."""
        values = self.take(name, lambda value: isinstance(value, Mapping), "an object")
        return Fields(values, self.path, self.remedy, f"{self.inside}{name}.")


def short(value: Any) -> str:
    """Returns a value as Python writes it, cut to a few words, however large it is."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


def is_whole(low: float, high: float) -> Callable[[Any], bool]:
    """Returns what says whether a value is a whole number from `low` to `high`."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_finite(value: Any) -> bool:
    """Says whether a value is a number, neither infinite nor nan, that a float32 holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 3e38


def is_text(value: Any) -> bool:
    """Says whether a value is text."""
    return isinstance(value, str)


def plain(text: str) -> str:
    """Returns a text in one line that may be printed, without the control characters that steer a terminal.

    >>> plain("road" + chr(27) + "[2J")
    'road [2J'
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


def is_list(fits: Callable[[Any], bool], counts: range | tuple[int, ...]) -> Callable[[Any], bool]:
    """Returns what says whether a value is a list of as many elements as one of `counts`, each of which fits."""
    return lambda value: isinstance(value, list | tuple) and len(value) in counts and all(map(fits, value))


is_color = is_list(is_whole(0, 255), (3,))
