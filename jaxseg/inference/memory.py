"""Out of memory: an error of XLA's of many lines becomes a sentence that says what to lower."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.errors import JaxRuntimeError

from jaxseg.checks import UserError


class OutOfMemory(UserError):
    """The memory of a device, or of this machine, did not suffice; `amount` says for how much, or is empty."""

    def __init__(self, message: str, amount: str = ""):
        super().__init__(message)
        self.amount = amount


@contextlib.contextmanager
def saying_what_to_lower(what: str, remedy: str) -> Iterator[None]:
    """Turns what JAX and NumPy raise when memory runs out into an `OutOfMemory`; other errors go through.

    Within another one, the outer has the word: it knows more of what was asked for.

    Args:
      what: what was computed, as the beginning of a sentence: "An image of 9000x9000".
      remedy: a sentence.

    >>> with saying_what_to_lower("An image of 4x4", "Cut it into tiles."):
    ...     raise JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 11500000000 bytes.")
    Traceback (most recent call last):
    jaxseg.inference.memory.OutOfMemory: An image of 4x4 needs more memory than there is (11.5 GB at once). Cut it ...
    """
    try:
        yield
    except (MemoryError, JaxRuntimeError, OutOfMemory) as error:
        text = str(error)
        if isinstance(error, JaxRuntimeError) and not re.search("RESOURCE_EXHAUSTED|out of memory", text, re.I):
            raise
        amount = error.amount if isinstance(error, OutOfMemory) else _amount(text)
        raise OutOfMemory(f"{what} needs more memory than there is{amount}. {remedy}", amount) from error


def _amount(text: str) -> str:
    """How much was asked for, where the message says it."""
    found = re.search(r"allocat\w* (?:of )?(\d+) bytes", text)
    if found:
        return f" ({int(found[1]) / 1e9:.1f} GB at once)"
    found = re.search(r"allocat\w* (?:of )?([\d.]+ ?[KMGT]i?B)", text)
    return f" ({found[1]} at once)" if found else ""


def free_memory(device: jax.Device) -> int | None:
    """Returns the bytes that are free: of the device's memory, on a CPU of this machine's. None if nobody says."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
