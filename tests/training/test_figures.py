"""Figures are drawn beside the run; that one can't be is no secret."""

import threading

import pytest

from jaxseg.training.figures import Figures


def test_drawing_does_not_stop_the_run():
    figures, go, drawn = Figures(), threading.Event(), []
    figures.draw(lambda: go.wait(5) and drawn.append("curves"))
    figures.draw(drawn.append, "grid")
    assert not drawn
    go.set()
    figures.wait()
    assert drawn == ["curves", "grid"]
    figures.close()


def test_an_error_is_raised_once_by_a_later_call():
    figures = Figures()

    def fail():
        raise OSError(28, "No space left on device")

    figures.draw(fail)
    with pytest.raises(OSError, match="No space left"):
        figures.wait()
    figures.wait()
    figures.close()
