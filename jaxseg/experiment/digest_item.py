"""The digests of a checkpoint as a part of it that orbax writes: in the background, and whole or not at all."""

import dataclasses
from pathlib import Path
from typing import Any

from orbax.checkpoint import args, future, handlers

from jaxseg.experiment.digests import Part, write_digests


class DigestHandler(handlers.AsyncCheckpointHandler):
    """Mixes the host's copies of the arrays while orbax writes them."""

    async def async_save(self, directory: Path, args: "DigestSave") -> list[future.Future]:
        """Returns what orbax waits for before it calls the checkpoint complete."""

        async def write() -> None:
            write_digests(Path(directory), args.parts, args.position)

        return [future.CommitFutureAwaitingContractedSignals(write(), name="digests")]

    def save(self, directory: Path, args: "DigestSave") -> None:
        """Writes at once."""
        write_digests(Path(directory), args.parts, args.position)

    def restore(self, directory: Path, args: Any = None) -> None:
        """Is not used: `read_digests` reads what was written."""
        raise NotImplementedError


@args.register_with_handler(DigestHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class DigestSave(args.CheckpointArgs):
    """What is digested.

    Args:
      parts: of the arrays, on this host.
      position: of the data iterator.
    """

    parts: list[Part]
    position: Any
