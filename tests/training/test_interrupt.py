"""The first signal leaves a note, the second Ctrl-C leaves at once."""

import signal

import pytest

from jaxseg.training.interrupt import Interrupts


def test_the_first_signal_is_noted_and_the_second_ctrl_c_leaves():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts() as interrupts:
        assert not interrupts.stopping(ask=True)
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.received == signal.SIGTERM and interrupts.stopping(ask=True)
        signal.raise_signal(signal.SIGTERM)  # a scheduler may ask twice: the state is still saved first
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_one_ctrl_c_is_noted():
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert interrupts.received == signal.SIGINT
