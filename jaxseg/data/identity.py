"""Which files a split consists of: enough to notice in seconds, and without decoding one, that they are others."""

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

SAMPLED = 16  # records whose files are looked into
PART = 2**19  # bytes at the beginning of such a file, and at its end, that are read
THREADS = 16  # that ask for sizes, which takes a file server a while


def identify_files(names: Sequence[str], files: Sequence[Sequence[str]]) -> dict[str, str]:
    """Returns digests of the names of the records, of the sizes of their files, and of what is in a few of them.

    What it can't notice: a file that was replaced by one of as many bytes, unless it is among the few records, spread
    evenly, that are looked into. Times are left out, as a copy has others.

    Args:
      names: of the records, in order.
      files: of each record, the paths of its files.
    """
    sizes = _sizes(list(chain.from_iterable(files)))
    last = len(files) - 1
    sampled = sorted({round(i * last / (SAMPLED - 1)) for i in range(SAMPLED)}) if files else []
    return {
        "names": _digest(name.encode(errors="surrogateescape") for name in names),
        "sizes": _digest(str(size).encode() for size in sizes),
        "sample": _digest(_ends(path) for i in sampled for path in files[i]),
    }


def _sizes(paths: Sequence[str]) -> list[int]:
    """The size of each file in bytes."""
    step = -(-len(paths) // THREADS) or 1
    parts = [paths[i : i + step] for i in range(0, len(paths), step)]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(chain.from_iterable(pool.map(lambda part: [os.stat(path).st_size for path in part], parts)))


def _ends(path: str) -> bytes:
    """The beginning and the end of a file; nothing of what is none, such as a pipe, which would be waited for."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        return b""
    with open(path, "rb") as file:
        first = file.read(PART)
        file.seek(max(file.seek(0, os.SEEK_END) - PART, len(first)))
        return first + file.read(PART)


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()[:32]
