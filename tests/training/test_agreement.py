"""What processes agree on: at the same steps, and asked before it is needed."""

import numpy as np

from jaxseg.experiment.devices import any_of_processes
from jaxseg.training.agreement import Agreement
from jaxseg.training.rows import IN_FLIGHT


class Answer:
    """An array on a device that notes at which step it is read."""

    def __init__(self, flags, asked, run):
        self.flags, self.asked, self.run = flags, asked, run

    def __array__(self, dtype=None, copy=None):
        self.run.read.append((self.asked, self.run.step))
        return np.asarray(self.flags)


class Run:
    """Two processes, of which the other raises flags at some steps."""

    def __init__(self, every, others):
        self.step, self.others, self.read = 0, others, []
        self.agreement = Agreement(every, processes=2, ask=self.ask)

    def ask(self, flags):
        return Answer(np.asarray(flags) | self.others(self.step), self.step, self)

    def answers(self, steps, flags):
        found = {}
        for self.step in steps:
            found[self.step] = self.agreement(self.step, *flags(self.step))
        return found


def test_a_flag_of_any_process_is_known_to_all_when_the_row_ends():
    run = Run(5, lambda step: np.array([False, step >= 4]))
    found = run.answers(range(1, 16), lambda step: (step >= 11, False))
    assert {step: flags for step, flags in found.items() if any(flags)} == {10: (False, True), 15: (True, True)}
    assert run.read == [(step - IN_FLIGHT, step) for step in (5, 10, 15)], "nothing is read sooner, or at other steps"


def test_a_run_that_resumes_just_before_a_row_has_not_asked():
    run = Run(5, lambda step: np.array([True]))
    found = run.answers(range(10 - IN_FLIGHT + 1, 16), lambda step: (True,))
    assert [step for step, flags in found.items() if any(flags)] == [15]


def test_the_flags_of_one_process_are_its_own():
    assert np.asarray(any_of_processes([True, False])).tolist() == [True, False]
