"""Rows of metrics.jsonl: what they say of the steps since the row before, and when the device is asked for it."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.log import Log
from jaxseg.training.rows import IN_FLIGHT, Rows, mean_of


class Number:
    """A scalar on a device that notes when the host waits for it."""

    def __init__(self, value, waited):
        self.value, self.waited = value, waited

    def block_until_ready(self):
        self.waited.append(self.value)
        return self

    def __array__(self, dtype=None, copy=None):
        self.waited.append(self.value)
        return np.asarray(self.value, np.float32)


class Written(Log):
    """A log that keeps what is written."""

    def __init__(self):
        self.rows = []

    def write(self, kind, step, **values):
        self.rows.append((kind, step, values["loss"], values["lr"]))


@pytest.fixture
def rows(tmp_path):
    log = Written()
    made = Rows(
        *(log, Checkpoints(tmp_path, writable=True), lambda update: update / 10),
        batch_size=2,
        accumulate=2,
        written=lambda loss, speed: None,
    )
    return made, log.rows


def test_a_row_is_the_mean_of_its_steps(tmp_path):
    steps = [{"loss": loss, "grad_norm": 2.0} for loss in (1.0, 2.0, 6.0)]
    assert mean_of(steps, 3, Checkpoints(tmp_path, writable=True)) == {"loss": 3.0, "grad_norm": 2.0}


def test_the_device_always_has_more_to_do_when_it_is_asked(rows):
    rows, log = rows
    waited, found = [], []
    for step in range(1, 9):
        rows.add(step, {"loss": Number(step, waited)})
        assert max(waited, default=0) == max(step - IN_FLIGHT, 0)  # neither later nor earlier
        if step % 4 == 0:
            rows.end(step)
        found.append(len(log))
    assert found == [0] * (3 + IN_FLIGHT) + [1] * (5 - IN_FLIGHT)
    rows.flush()
    assert log == [("train", 4, 2.5, 0.1), ("train", 8, 6.5, 0.3)]


def test_a_loss_that_is_no_number_is_of_its_step_and_no_row_of_it_is_written(rows):
    rows, log = rows
    for step, loss in enumerate([1.0, 1.0, 1.0, np.nan, 1.0], start=1):
        rows.add(step, {"loss": jnp.float32(loss)})
        if step % 2 == 0:
            rows.end(step)
    with pytest.raises(UserError, match="Training stopped at step 4: loss is nan"):
        rows.flush()
    assert [row[1] for row in log] == [2]


def test_what_no_row_has_yet_is_checked_too(rows):
    rows, _ = rows
    rows.add(1, {"loss": jnp.float32(np.inf)})
    with pytest.raises(UserError, match="Training stopped at step 1: loss is inf"):
        rows.check(1)
