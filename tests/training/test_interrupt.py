"""The first signal leaves a note and is answered, the second Ctrl-C leaves at once."""

import hashlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxseg.training.interrupt import Interrupts


def test_the_first_signal_is_noted_and_the_second_ctrl_c_leaves():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts() as interrupts:
        assert interrupts.received is None
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.received == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)  # a scheduler may ask twice: the state is still saved first
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGUSR1", "SIGQUIT"])
def test_one_signal_is_noted(name):
    number = getattr(signal, name)
    with Interrupts() as interrupts:
        signal.raise_signal(number)
        assert interrupts.received == number


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGHUP)
            assert interrupts.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


class _Times:
    """A stderr that notes when something was written."""

    def __init__(self):
        self.text, self.at = "", None

    def write(self, text):
        self.at = self.at or time.monotonic()
        self.text += text

    def flush(self):
        pass


def test_a_signal_is_answered_while_the_program_is_in_a_library(monkeypatch):
    """As a compilation is, in which Python runs no handler."""
    said = _Times()
    monkeypatch.setattr(sys, "stderr", said)
    with Interrupts() as interrupts:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 3_000_000)
        returned = time.monotonic()
        assert interrupts.received == signal.SIGUSR1
    assert said.text == "\nSIGUSR1: stopping after this step; a checkpoint is saved first.\n"
    assert said.at < returned - 0.05


CLOSED = """
import fcntl, pathlib, signal, sys, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from jaxseg.training.interrupt import Interrupts
with Interrupts() as interrupts:
    print("ready", flush=True)
    while interrupts.received is None:
        time.sleep(0.01)
    time.sleep(0.2)
    print("loss 0.5", flush=True)
    print("saving", file=sys.stderr, flush=True)
    pathlib.Path(sys.argv[1]).write_text(signal.Signals(interrupts.received).name)
"""


def test_a_closed_terminal_does_not_keep_a_run_from_saving(tmp_path):
    """What is written to it afterwards would be an error."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CLOSED, tmp_path / "end"],
        cwd=Path(__file__).parents[2],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    assert b"ready" in os.read(ours, 100)
    os.close(ours)
    assert process.wait(timeout=30) == 0
    assert (tmp_path / "end").read_text() == "SIGHUP"
