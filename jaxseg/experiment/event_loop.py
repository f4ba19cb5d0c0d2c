"""Event loops that close when nothing waits in them any more.

Orbax reads the arrays of a checkpoint side by side in an event loop of `asyncio`. Where one can't be read, it closes
the loop while TensorStore still reads the others; each of these then fails to report to the loop, in a thread where
nobody catches it, and Python prints dozens of traces that end in "Event loop is closed".
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

PATIENCE = 10.0  # seconds: a network that hangs must not hold what has failed already
_lock = threading.Lock()


class _Patient(asyncio.SelectorEventLoop):
    """Waits for its tasks before it closes."""

    def close(self) -> None:
        if not self.is_closed() and not self.is_running() and (tasks := asyncio.all_tasks(self)):
            done, _ = self.run_until_complete(asyncio.wait(tasks, timeout=PATIENCE))
            for task in done:
                if not task.cancelled():
                    task.exception()  # or asyncio says that nobody asked for it
        super().close()


class _Policy(asyncio.AbstractEventLoopPolicy):
    """Another policy, but for the loops that one thread makes."""

    def __init__(self, policy: asyncio.AbstractEventLoopPolicy):
        self._policy, self._thread = policy, threading.get_ident()

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return _Patient() if threading.get_ident() == self._thread else self._policy.new_event_loop()

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        return self._policy.get_event_loop()

    def set_event_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._policy.set_event_loop(loop)

    def get_child_watcher(self) -> Any:
        return self._policy.get_child_watcher()

    def set_child_watcher(self, watcher: Any) -> None:
        self._policy.set_child_watcher(watcher)


@contextlib.contextmanager
def patient_loops() -> Iterator[None]:
    """Lets the event loops that this thread makes in the block wait for their tasks before they close.

    One thread is in such a block at a time; another one waits.
    """
    with _lock:
        before = asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(_Policy(before))
        try:
            yield
        finally:
            asyncio.set_event_loop_policy(before)
