"""When a run saves: by time or by steps, at every evaluation and at the end, and never so that the device waits."""

import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxseg.experiment import devices as shard
from jaxseg.experiment.log import say
from jaxseg.experiment.state import TrainState


@runtime_checkable
class Disk(Protocol):
    """Where states are written: a run's `Checkpoints`."""

    def saving(self) -> bool:
        """Returns whether one is being written."""

    def save(self, step: int, state: TrainState | None, data: dict[str, Any]) -> None:
        """Starts to write one, as `Checkpoints.save`."""


class Saving:
    """Decides at which steps a checkpoint is written.

    Args:
      checkpoints: of the run.
      minutes: between two checkpoints; 0 does not save by time.
      every: steps between two checkpoints; 0 does not save by steps.
      clock: the time in seconds, from any beginning.
    """

    def __init__(
        self,
        checkpoints: Disk,
        *,
        minutes: float,
        every: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.checkpoints, self._minutes, self._every, self._clock = checkpoints, minutes, every, clock
        self._last, self._said = clock(), False

    def by_step(self, step: int) -> bool:
        """Returns whether the number of `step` asks for a checkpoint, whatever the time and the disk say."""
        return bool(self._every) and step % self._every == 0

    def late(self) -> bool:
        """Returns whether the clock asks for a checkpoint."""
        return bool(self._minutes) and self._clock() - self._last >= 60 * self._minutes

    def due(self, step: int, *, late: bool) -> bool:
        """Returns whether to save after `step`; all processes of the run are told the same.

        A save that is due while one is being written is left out: the next one comes as much later.

        Args:
          step: that was just made.
          late: what `late` says, and all processes agree on. Ask at steps of which metrics.jsonl has a row anyway, so
            that its rows do not depend on the time.
        """
        if not (self.by_step(step) or late):
            return False
        if shard.any_process(self.checkpoints.saving()):
            if not self._said:
                self._said = True
                say(
                    f"Step {step} is not saved: an earlier checkpoint is still being written. Where that happens often,"
                    " give a larger config.checkpoint.minutes (or .every), or a faster disk."
                )
            return False
        return True

    def save(self, step: int, state: TrainState | None, position: dict[str, Any]) -> None:
        """Saves the state after `step`, which `due` or an event has decided; waits if one is being written.

        Args:
          step: that was just made.
          state: after it.
          position: of the data iterator.
        """
        self._last = self._clock()
        self.checkpoints.save(step, state, {"iterator": position})
