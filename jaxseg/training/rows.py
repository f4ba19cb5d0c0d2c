"""Rows of metrics.jsonl: what steps report is read from the device only when the device has more to do."""

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxseg.checks import UserError
from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.log import Log

IN_FLIGHT = 2  # steps that the device has before it while the host reads what an earlier one reported


@runtime_checkable
class Pending(Protocol):
    """A number that the device may not have yet, as a `jax.Array` is."""

    def block_until_ready(self) -> Any: ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray: ...


Metrics = Mapping[str, Pending]  # what a step reports


@dataclasses.dataclass
class _Row:
    """A row whose numbers are on the device."""

    step: int  # the last that it is of
    metrics: list[Metrics]  # of each of its steps
    rate: ArrayLike  # learning rate of the last


class Rows:
    """Collects the metrics of steps, and writes their means, row by row.

    A row is written when `IN_FLIGHT` more steps were sent off, so that the device never waits for the host; `flush`
    does not wait for these. The host, in turn, is never further ahead: no more batches than that lie on the device.

    Args:
      log: of the run.
      checkpoints: of the run, for the error of a loss that is not a number.
      schedule: update -> learning rate.
      batch_size: images of a step.
      accumulate: steps of an update.
      written: called with the loss and the images per second of every row.
    """

    def __init__(
        self,
        log: Log,
        checkpoints: Checkpoints,
        schedule: optax.Schedule,
        *,
        batch_size: int,
        accumulate: int,
        written: Callable[[float, float], None],
    ):
        self._log, self._checkpoints, self._schedule = log, checkpoints, schedule
        self._batch_size, self._accumulate, self._written = batch_size, accumulate, written
        self._pending: list[Metrics] = []  # of the steps that no row has yet
        self._rows: deque[_Row] = deque()
        self._flying: deque[Metrics] = deque()
        self._since = time.perf_counter()

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes the metrics of `step`, which was just sent off; waits for the one `IN_FLIGHT` before it."""
        self._pending.append(metrics)
        self._flying.append(metrics)
        if len(self._flying) > IN_FLIGHT:
            jax.block_until_ready(self._flying.popleft())
        while self._rows and step - self._rows[0].step >= IN_FLIGHT:
            self._write(self._rows.popleft())

    def end(self, step: int) -> None:
        """Ends a row with `step`, the last that was added."""
        rate = self._schedule((step - 1) // self._accumulate)  # read later: it may be computed after the steps
        self._rows.append(_Row(step, self._pending, rate))
        self._pending = []

    def flush(self) -> None:
        """Writes all rows that have ended."""
        while self._rows:
            self._write(self._rows.popleft())

    def check(self, step: int) -> None:
        """Writes all rows that have ended, and raises for a loss that is not a number in the steps since, to `step`."""
        self.flush()
        if self._pending:
            mean_of(self._pending, step, self._checkpoints)

    def restart_clock(self) -> None:
        """Leaves the time since the last row out of the speed of the next."""
        self._since = time.perf_counter()

    def _write(self, row: _Row) -> None:
        means = mean_of(row.metrics, row.step, self._checkpoints)
        now = time.perf_counter()
        speed = len(row.metrics) * self._batch_size / (now - self._since)
        self._since = now
        self._log.write("train", row.step, **means, lr=float(row.rate), images_per_s=speed)
        self._written(means["loss"], speed)


def mean_of(
    metrics: Sequence[Mapping[str, ArrayLike | Pending]], last: int, checkpoints: Checkpoints
) -> dict[str, float]:
    """Returns the means of what steps reported; raises a `UserError` where a loss or a gradient is not a number.

    Args:
      metrics: of consecutive steps, on any device.
      last: the number of the last step.
      checkpoints: of the run, for the message.
    """
    rows = jax.device_get(metrics)
    for step, row in enumerate(rows, last - len(rows) + 1):
        bad = [name for name in ("loss", "grad_norm") if name in row and not math.isfinite(row[name])]
        if bad:
            checkpoints.wait()  # one from before it may still be on its way
            latest = checkpoints.latest()
            kept = f"Checkpoint {latest} is from before it" if latest else "There is no checkpoint from before it"
            raise UserError(
                f"Training stopped at step {step}: {bad[0]} is {row[bad[0]]}. {kept}; nothing was saved since.\n"
                "Try a smaller config.optim.lr, config.optim.warmup_steps=500 or config.optim.clip_norm=1.0,"
                " in a new workdir; with bfloat16, try config.model.dtype=float32."
            )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
