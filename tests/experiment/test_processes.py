"""Processes find each other, and none waits for one that is gone."""

import argparse
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxseg.checks import UserError
from jaxseg.cli.distributed import arguments, joining
from jaxseg.experiment.processes import GONE, Group, find_group

ROOT = Path(__file__).parents[2]
NONE = (None, None, None)
MEMBER = """
import os, sys, time, signal
from jaxseg.checks import UserError
from jaxseg.cli.launch import guard
from jaxseg.cli.distributed import arguments, joining
from jaxseg.experiment.processes import Group, joined

def work():
    port, process = int(sys.argv[1]), int(sys.argv[2])
    with joined(Group(f"127.0.0.1:{port}", 2, process), heartbeat=4.0):
        import jax
        from jax.experimental.multihost_utils import process_allgather
        assert process_allgather(jax.numpy.ones(())).sum() == 2
        print("ready", flush=True)
        if sys.argv[3] == "mistake" and process:
            raise UserError("The label is wrong.")
        while True:
            try:
                process_allgather(jax.numpy.ones(()))  # stands still, or fails, when one is missing
            except Exception as error:
                if sys.argv[3] == "save":  # as a checkpoint says what it can't be written for
                    raise UserError("Could not save.") from error
                raise
            if sys.argv[3] == "end":
                return
            time.sleep(0.02)

sys.exit(guard(work))
"""


@pytest.fixture
def members(monkeypatch):
    """members(task) -> two connected processes."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    started = []

    def start(task):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for process in range(2):
            command = [sys.executable, "-c", MEMBER, str(port), str(process), task]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            started.append(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))
        for member in started:
            while (line := member.stdout.readline()) != "ready\n":
                assert line, member.communicate()[1]
        return started

    yield start
    for member in started:
        member.kill()
        member.wait()


@pytest.mark.parametrize("victim, task", [(0, "save"), (1, "work")])
def test_one_process_killed_ends_the_other(members, victim, task):
    """Process 0 too, in which the service of `jax.distributed` would have run; within a save too."""
    both = members(task)
    began = time.monotonic()
    both[victim].kill()
    _, text = both[1 - victim].communicate(timeout=30)
    assert time.monotonic() - began < 25  # 4 s on a machine with nothing else to do
    assert both[1 - victim].returncode == GONE, text
    assert f"error: Process {victim} of 2 has not been heard of for 4 s" in text
    assert "goes on from its last checkpoint" in text
    assert "stack trace" not in text and "Traceback" not in text


def test_a_mistake_in_one_ends_the_other_and_is_told(members):
    first, second = members("mistake")
    texts = [member.communicate(timeout=30)[1] for member in (first, second)]
    assert (first.returncode, second.returncode) == (1, 1), texts
    assert "error: Process 1 of 2 stopped: The label is wrong." in texts[0]
    assert "error: The label is wrong." in texts[1]


def test_they_end_together(members):
    both = members("end")
    texts = [member.communicate(timeout=30)[1] for member in both]
    assert [member.returncode for member in both] == [0, 0], texts


def test_a_signal_outside_of_training_ends_a_process(members):
    """JAX would take SIGTERM for itself."""
    both = members("work")
    both[0].send_signal(signal.SIGTERM)
    assert both[0].wait(timeout=10) == -signal.SIGTERM


def test_flags_go_before_variables():
    variables = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert find_group(*NONE, variables) == Group("a:1", 4, 3)
    assert find_group("b:2", 8, 0, variables) == Group("b:2", 8, 0)


def test_slurm_is_found(monkeypatch):
    variables = {"JOB_ID": 7, "STEP_NODELIST": "gpu[03-04]", "NTASKS": 16, "PROCID": 9, "LOCALID": 1}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    group = find_group(*NONE, {})
    assert (group.processes, group.process, group.local_devices) == (16, 9, [1])
    assert group.coordinator.startswith("gpu03:")


@pytest.mark.parametrize(
    ("flags", "variables", "message"),
    [
        (NONE, {}, "--distributed finds no Slurm"),
        (("a:1", 2, None), {}, r"need all three: --process I \(or JAX_PROCESS_ID\) missing"),
        ((None, None, 1), {}, "--coordinator HOST:PORT .* and --processes N .* missing"),
        (("a", 2, 0), {}, "--coordinator is HOST:PORT, the machine of process 0, got 'a'"),
        (("a:99999", 2, 0), {}, "got 'a:99999'"),
        (("a:0", 2, 0), {}, "got 'a:0'"),
        (("a:1", 2, 2), {}, "--process counts from 0 to --processes - 1, got --process 2 --processes 2"),
        (("a:1", 0, 0), {}, "--processes 0"),
        (("a:1", None, 0), {"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES is a whole number, got 'two'"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(flags, variables, message):
    with pytest.raises(UserError, match=message) as caught:
        find_group(*flags, variables)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seconds", ["0", "-3", "nan", "inf", "1e9"])
def test_a_heartbeat_that_no_clock_beats_is_refused(seconds):
    parser = argparse.ArgumentParser()
    arguments(parser)
    with pytest.raises(UserError, match="--heartbeat is a number of seconds, from 1 to 3600, got"):
        joining(parser.parse_args(["--coordinator", "a:1", f"--heartbeat={seconds}"]))
