"""A peer in a process of its own, as its users run it.

In one process the C library's heap would be common to both. `jaxseg` tells it to keep freed memory (`cli/heap.py`),
which saved PyTorch an eighth of a step's processor time, and PyTorch's arrays lay where XLA's block had been.
"""

import multiprocessing
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jaxseg.bench.cases import Case
from jaxseg.bench.peers import PEERS
from jaxseg.bench.timing import Subject
from jaxseg.checks import UserError

CALLS = ("step", "forward", "wait")
DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, and either under Windows
END = 10  # seconds that a process has to end by itself


@contextmanager
def running(peer: str | None, case: Case) -> Iterator[list[Subject]]:
    """Yields the ways to run a peer: in this process where the machine has a GPU, in one of its own where not.

    On a GPU both stay in one process: it has no common heap, and there PyTorch loads CUDA's libraries before JAX does.

    Args:
      peer: a key of `PEERS`; None yields no way.
      case: what to measure.

    Raises:
      UserError: the peer's library is missing or lacks the model.
    """
    if peer is None:
        yield []
    elif has_gpu():
        yield PEERS[peer](case)
    else:
        with apart(peer, case) as found:
            yield found


def has_gpu() -> bool:
    """Whether the machine has a GPU, found without touching it."""
    return any(Path(device).exists() for device in DEVICES)


@contextmanager
def apart(peer: str, case: Case) -> Iterator[list[Subject]]:
    """Yields the ways to run a peer, each of whose calls another process does; it ends with the block."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, peer, case), daemon=True)
    process.start()
    there.close()
    try:
        subjects = []
        for i, (name, figures, network) in enumerate(_answer(here, process)[0]):
            calls = {call: partial(_ask, here, process, i, call, figures) for call in CALLS}
            subjects.append(Subject(name, figures=figures, network=network, **calls))
        yield subjects
    finally:
        here.close()
        process.join(END)
        process.kill()


def _ask(connection: Connection, process: Any, index: int, call: str, figures: dict[str, Any]) -> None:
    _, figures["process_peak_bytes"] = _answer(connection, process, (index, call))


def _answer(connection: Connection, process: Any, request: tuple[int, str] | None = None) -> tuple[Any, int]:
    """The other process's answer and the peak of its memory; what went wrong there is raised here."""
    try:
        if request:
            connection.send(request)
        answer, peak = connection.recv()
    except (EOFError, ConnectionError):
        process.join(END)
        raise RuntimeError(f"the peer's process ended, with status {process.exitcode}") from None
    if isinstance(answer, Exception):
        raise answer
    return answer, peak


def _serve(connection: Connection, peer: str, case: Case) -> None:
    """Makes the peer and does what the other end asks for, until that is gone."""
    try:
        subjects = PEERS[peer](case)
        connection.send(([(s.name, s.figures, s.network) for s in subjects], peak_bytes()))
        while True:
            index, call = connection.recv()
            getattr(subjects[index], call)()
            connection.send((None, peak_bytes()))
    except (EOFError, ConnectionError):  # the other end is gone
        pass
    except UserError as error:
        connection.send((error, 0))
    except Exception as error:  # not all can be sent
        connection.send((RuntimeError(f"{type(error).__name__}: {error}"), 0))


def peak_bytes() -> int:
    """Returns the most memory that this process had so far, in bytes."""
    with suppress(OSError):  # there is no /proc but on Linux
        # What getrusage gives begins, in a process that another one started, with the memory of that one.
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
