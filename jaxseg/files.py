"""Whole files or none: what is written here is never seen half done, not even after a kill."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    Folders above `path` are made. After an error the file that was there before is still whole.

    Args:
      path: of the file to write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # other processes write to one of their own
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` to `path` in UTF-8, whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, *, default: Callable[[Any], Any] | None = None) -> None:
    """Writes `value` to `path` as JSON, indented by one space, whole or not at all.

    Args:
      path: of the file to write.
      value: what `json` can hold; nan and infinities are refused with a `ValueError`, because JSON has none.
      default: makes of an object that `json` does not know one that it knows.
    """
    write_text(path, json.dumps(value, indent=1, default=default, allow_nan=False) + "\n")
