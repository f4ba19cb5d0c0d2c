"""Ctrl-C and SIGTERM ask for a checkpoint before leaving; a second Ctrl-C leaves at once."""

import signal
from types import FrameType

import jax

from jaxseg.experiment import devices as shard


class Interrupts:
    """A context in which SIGINT and SIGTERM do not end the program: their number is stored in `received`."""

    def __init__(self):
        self.received: int | None = None
        self._previous = {}

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._note)
            except ValueError:  # not in the main thread: signals stay as they are
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def stopping(self, *, ask: bool) -> bool:
        """Returns whether to stop after this step.

        Args:
          ask: whether several processes agree now on the answer, which all of them must do at the same step. Until then
            the answer of several processes is no.
        """
        if jax.process_count() == 1:
            return self.received is not None
        if ask and shard.any_process(self.received is not None):
            self.received = self.received or signal.SIGTERM
            return True
        return False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
