"""When a run saves: by time and by steps, and never beside a save that is under way."""

import types

from jaxseg.training.saving import Saving


def _saving(**options):
    """A `Saving` whose clock and whose disk the test moves."""
    disk = types.SimpleNamespace(busy=False, saved=[], now=0.0)
    disk.saving = lambda: disk.busy
    disk.save = lambda step, state, data: disk.saved.append((step, data))
    return Saving(disk, clock=lambda: disk.now, **{"minutes": 0, "every": 0, **options}), disk


def test_saves_by_time_count_from_the_last_one_whatever_made_it():
    saving, disk = _saving(minutes=10)
    due = {}
    for step, minute in enumerate([5, 9.9, 10, 11, 19, 23, 32, 33]):
        disk.now = 60 * minute
        assert not saving.due(step, late=False)
        due[minute] = saving.due(step, late=saving.late())
        if due[minute] or minute == 23:  # an evaluation saves at that time
            saving.save(step, None, {"next_index": step})
    assert [minute for minute, saved in due.items() if saved] == [10, 23, 33]
    assert disk.saved[0] == (2, {"iterator": {"next_index": 2}})


def test_saves_by_steps_are_the_same_at_any_speed():
    saving, _ = _saving(every=4)
    assert [step for step in range(1, 13) if saving.due(step, late=saving.late())] == [4, 8, 12]
    assert not _saving()[0].late()


def test_what_is_due_while_the_disk_is_busy_is_left_out_and_said_once(capsys):
    saving, disk = _saving(minutes=10, every=2)
    disk.busy, disk.now = True, 601
    assert not any(saving.due(step, late=saving.late()) for step in (1, 2, 3, 4))
    assert capsys.readouterr().err.count("Step 1 is not saved: an earlier checkpoint is still being written.") == 1
    disk.busy = False
    assert saving.due(5, late=saving.late()), "it is late"
