"""A loop that is closed early makes whatever still runs in it print a trace."""

import asyncio
import logging

import pytest

from jaxseg.experiment.event_loop import patient_loops


def _fail_beside(loop, seen):
    async def slow(number):
        await asyncio.sleep(0.05)
        seen.append(number)
        if number:
            raise ValueError("also missing")

    async def broken():
        raise ValueError("missing")

    async def all_of_them():
        await asyncio.gather(slow(0), broken(), slow(1))

    with pytest.raises(ValueError, match="^missing$"):
        loop.run_until_complete(all_of_them())
    loop.close()


def test_what_runs_beside_a_failure_ends_before_the_loop_closes(caplog):
    seen, policy = [], asyncio.get_event_loop_policy()
    with patient_loops(), caplog.at_level(logging.DEBUG, "asyncio"):
        _fail_beside(asyncio.new_event_loop(), seen)
    assert seen == [0, 1]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    assert asyncio.get_event_loop_policy() is policy


def test_a_failure_gives_the_policy_back():
    policy = asyncio.get_event_loop_policy()
    with pytest.raises(KeyError), patient_loops():
        raise KeyError
    assert asyncio.get_event_loop_policy() is policy
