"""Signals that ask a run to end: a checkpoint is saved first; a second Ctrl-C or Ctrl-\\ leaves at once."""

import os
import signal
import sys
import threading
from types import FrameType

import jax

# A closed terminal sends SIGHUP; Slurm sends SIGTERM, or what `--signal` names, mostly SIGUSR1.
ASKING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGQUIT")
LEAVING = ("SIGINT", "SIGQUIT")  # the second of these ends the program


class Interrupts:
    """A context in which the signals of `ASKING` do not end the program: their number is stored in `received`.

    The first one is answered at once, also while JAX compiles, when Python itself does not get to run.
    """

    def __init__(self):
        self.received: int | None = None
        self._previous = {}
        self._terminals = [stream for stream in (1, 2) if os.isatty(stream)]
        self._pipe: tuple[int, int] | None = None
        self._wakeup = -1

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is not threading.main_thread():
            return self  # signals stay as they are
        for name in ASKING:
            number = getattr(signal, name, None)
            # nohup lets a program ignore SIGHUP: it is to go on.
            if number is not None and not (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
                self._previous[number] = signal.signal(number, self._note)
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._answer, args=(self._pipe[0],), daemon=True, name="signals")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._pipe:
            signal.set_wakeup_fd(self._wakeup)
            os.close(self._pipe[1])  # which ends the thread, once it has said what it has to say
            self._thread.join(5)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == getattr(signal, "SIGHUP", None):
            self._leave_terminal()
        if self.received and number in [getattr(signal, name, None) for name in LEAVING]:
            raise KeyboardInterrupt
        self.received = number

    def _leave_terminal(self) -> None:
        """Writes to nowhere what was written to a terminal that is closed: an error of it must not end the run."""
        for stream in self._terminals:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
        self._terminals = []

    def _answer(self, pipe: int) -> None:
        """Says that a signal came. It runs in a thread, as a compilation keeps the main one from running handlers."""
        said = False
        while numbers := os.read(pipe, 64):
            asking = [n for n in numbers if n in self._previous]
            if asking and not said and jax.process_index() == 0:
                said = True
                try:
                    print(
                        f"\n{signal.Signals(asking[0]).name}: stopping after this step; a checkpoint is saved first.",
                        file=sys.stderr,
                        flush=True,
                    )
                except OSError:  # the terminal is closed
                    continue
        os.close(pipe)
