"""The figures of a run, which are drawn while the run goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Figures:
    """Calls functions that draw, one after the other, in a thread of their own; what one raises, a later call raises.

    >>> figures, drawn = Figures(), []
    >>> figures.draw(drawn.append, "curves")
    >>> figures.wait()
    >>> drawn
    ['curves']
    """

    def __init__(self):
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="figures")
        self._drawing: list[Future] = []

    def draw(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Calls `function` soon; its arguments must not change until then."""
        self._raise([future for future in self._drawing if future.done()])
        self._drawing.append(self._pool.submit(function, *args, **kwargs))

    def wait(self) -> None:
        """Returns when all is drawn."""
        self._raise(self._drawing)

    def close(self) -> None:
        """Waits for what is being drawn; whether that fails does not matter any more."""
        self._pool.shutdown(cancel_futures=True)

    def _raise(self, done: list[Future]) -> None:
        """Waits for some, and raises what the first of them raised, once."""
        self._drawing = [future for future in self._drawing if future not in done]
        for future in done:
            future.result()
