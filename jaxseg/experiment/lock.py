"""The lock of a workdir: one training at a time."""

import contextlib
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax

from jaxseg.checks import UserError


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Locks WORKDIR/.lock while the block runs. The system unlocks it when the process ends, even if it is killed.

    If one run has several processes, the first of them holds the lock for all.

    Raises:
      UserError: another process is training in the workdir.
    """
    if jax.process_index():
        yield
        return
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / ".lock"
    if path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1):  # what it links to would be overwritten
        raise UserError(f"{path} is a link, which jaxseg never makes. Remove it.")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is a folder, a pipe or a device, which jaxseg never makes. Remove it.")
    with path.open("a+") as file:
        _hold(file.fileno(), workdir)
        file.truncate(0)
        file.write(f"{socket.gethostname()}, process {os.getpid()}\n")
        file.flush()
        yield


def _hold(descriptor: int, workdir: Path) -> None:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = (workdir / ".lock").read_text(errors="replace")[:200].strip() or "another process"
        raise UserError(
            f"{workdir} is in use: {owner} trains in it. Wait for it, stop it, or name another --workdir."
        ) from None
    except (ImportError, OSError) as error:  # Windows, and file systems without locks
        warnings.warn(f"{workdir} cannot be locked ({error}): do not start a second training in it.")
