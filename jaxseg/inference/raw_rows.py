"""Rows of results of an image in raw files, which several processes write, and a note of those that are done."""

import contextlib
import dataclasses
import glob
import os
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxseg.checks import UserError
from jaxseg.files import read_json, write_json
from jaxseg.inference.large_tiff import ReadRows

SAVED = 5.0  # seconds between two notes of what is done
_TOKEN = 16  # random bytes at the end of a raw file


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of every large image that a process predicts: `index` of `count`."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Returns the share that "1/4" means, the second of four.

        >>> Share.parse("1/4").rows(1000)
        (250, 500)
        """
        try:
            index, count = map(int, text.split("/"))
        except ValueError:
            raise UserError(f"--process is I/N, as 0/4, the first of four; got '{text}'.") from None
        if not 0 <= index < count:
            raise UserError(f"--process is I/N with I from 0 to N - 1, got '{text}'.")
        return cls(index, count)

    def rows(self, height: int) -> tuple[int, int]:
        """Returns (first, end) of the rows of an image."""
        return height * self.index // self.count, height * (self.index + 1) // self.count


ALL = Share()


class RawRows:
    """The rows of an image's results in raw files, one a layer, and which of them are done; a context that closes them.

    Args:
      stem: of the files.
      size: (height, width) of the image, pixels.
      layers: name -> (dtype, numbers of each pixel).
      identity: of what they are the results; rows of something else are not gone on with.
      share: of this process.
    """

    def __init__(
        self,
        stem: Path,
        size: tuple[int, int],
        layers: Mapping[str, tuple[np.dtype, int]],
        identity: str,
        share: Share,
    ):
        self._size, self._layers, self._identity, self._share = size, layers, identity, share
        # Results of another model or setting have other files: what is written here can't get among them.
        self._files = {name: stem.with_name(f".{stem.name}.{identity[:8]}.{name}") for name in layers}
        self._saved = time.monotonic()
        stem.parent.mkdir(parents=True, exist_ok=True)
        first, self._end = share.rows(size[0])
        self._handles = {name: self._open(name) for name in layers}
        # A file ends in random bytes of its own, which notes repeat: those of a file that is gone are of no other.
        self._tokens = {
            name: os.pread(handle, _TOKEN, size[0] * self._row(name)).hex() for name, handle in self._handles.items()
        }
        self._done = max(first, self._noted(share))

    def __enter__(self) -> "RawRows":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None and not issubclass(kind, OSError):  # interrupted: what is done is kept
            with contextlib.suppress(OSError):
                self.note()
        for handle in self._handles.values():
            os.close(handle)

    def left(self) -> tuple[int, int]:
        """(first, end) of this process's rows that are not done."""
        return self._done, self._end

    def write(self, top: int, rows: Mapping[str, Shaped[np.ndarray, "h w *_c"]]) -> None:
        """Writes rows of every layer, and notes from time to time that they are done."""
        for name, handle in self._handles.items():
            data, at = memoryview(np.ascontiguousarray(rows[name]).tobytes()), top * self._row(name)
            while data:
                written = os.pwrite(handle, data, at)
                data, at = data[written:], at + written
        self._done = top + len(rows["label"])
        if time.monotonic() - self._saved > SAVED:
            self.note()

    def note(self) -> None:
        """Notes what is done, after it is on the disk."""
        for handle in self._handles.values():
            os.fsync(handle)
        told = {"identity": self._identity, "files": self._tokens, "done": self._done}
        write_json(self._note(self._share), told)
        self._saved = time.monotonic()

    def reader(self, name: str) -> ReadRows:
        """Returns what reads rows of a layer."""
        handle, (dtype, count) = self._handles[name], self._layers[name]

        def read(top: int, bottom: int) -> Shaped[np.ndarray, "h w c"]:
            data = os.pread(handle, (bottom - top) * self._row(name), top * self._row(name))
            return np.frombuffer(data, dtype).reshape(bottom - top, self._size[1], count)

        return read

    def complete(self) -> bool:
        """Whether all processes have done their rows."""
        return all(self._noted(share) >= share.rows(self._size[0])[1] for share in self._shares())

    def remove(self) -> None:
        """Removes the files."""
        label = self._files["label"]
        notes = label.parent.glob(f"{glob.escape(label.name)}.*-*.json")  # of however many processes
        for path in (*self._files.values(), *notes):
            with contextlib.suppress(OSError):
                path.unlink()

    def _open(self, name: str) -> int:
        """Opens the file of a layer; one that is not as long as it must be, or no file, is made anew."""
        file, length = self._files[name], self._size[0] * self._row(name)
        try:
            found = os.lstat(file)
            right = stat.S_ISREG(found.st_mode) and found.st_size == length + _TOKEN
        except FileNotFoundError:
            found, right = None, False
        if not right:
            handle, part = tempfile.mkstemp(prefix=f"{file.name}.", dir=file.parent)
            try:
                os.pwrite(handle, os.urandom(_TOKEN), length)
                if found is not None:
                    os.replace(part, file)
                else:
                    _take_name(part, file)
            finally:
                os.close(handle)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part)
        return os.open(file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))

    def _shares(self) -> list[Share]:
        return [Share(i, self._share.count) for i in range(self._share.count)]

    def _row(self, name: str) -> int:
        dtype, count = self._layers[name]
        return self._size[1] * dtype.itemsize * count

    def _note(self, share: Share) -> Path:
        file = self._files["label"]
        return file.with_name(f"{file.name}.{share.index}-{share.count}.json")

    def _noted(self, share: Share) -> int:
        """Up to which row a process says that it is done, 0 where it says so of something else, or nothing."""
        path = self._note(share)
        try:
            found: Any = read_json(path, "") if path.exists() else {}
        except UserError:
            return 0
        own = isinstance(found, dict) and (found.get("identity"), found.get("files")) == (self._identity, self._tokens)
        done = found.get("done") if own else 0
        return done if isinstance(done, int) and 0 <= done <= self._size[0] else 0


def _take_name(part: str, file: Path) -> None:
    """Gives a file its name, unless another process was faster, whose file then stays."""
    try:
        os.link(part, file)
    except FileExistsError:
        pass
    except OSError:  # of a disk that has no links, such as exFAT: there the last one wins
        if not file.exists():
            os.replace(part, file)
