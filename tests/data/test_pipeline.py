"""Batches: what is in them, in which order, and that the order survives a restart and the choice of workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.data.bands import Bands
from jaxseg.data.dataset import Relabeled
from jaxseg.data.pipeline import DEATHS, Loader, eval_records, train_iterator
from jaxseg.data.resize import Resize
from jaxseg.data.shapes import shapes

SETTINGS = {"canvas": (16, 16), "batch_size": 4, "seed": 3, "ignore": 255, "num_labels": 7}


class Numbered:
    """Records that carry their number in the first pixel, of three sizes."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        size = (12, 14 + 2 * (index % 3))
        image = np.full((*size, 3), index, np.uint8)
        return {"image": image, "label": np.full(size, index % 7, np.uint8), "name": f"{index}"}


def numbers(batch):
    return batch["image"][:, 8, 8, 0].tolist()


def take(source, count, *, state=None, **settings):
    batches = train_iterator(source, **{**SETTINGS, **settings})
    if state is not None:
        batches.set_state(state)
    try:
        return [next(batches) for _ in range(count)]
    finally:
        batches.close()


def test_batches_have_one_shape():
    for batch in take(Numbered(9), 5):
        assert batch["image"].shape == (4, 16, 16, 3)
        assert batch["label"].shape == (4, 16, 16)
        assert {v.dtype for v in batch.values()} == {np.dtype(np.uint8)}
        for number, label in zip(numbers(batch), batch["label"][:, 8, 8], strict=True):
            assert number % 7 == label


def test_every_epoch_holds_everything_once_in_a_new_order():
    order = np.concatenate([numbers(b) for b in take(Numbered(10), 15)]).reshape(6, 10)
    for epoch in order:
        assert sorted(epoch) == list(range(10))
    assert len({tuple(epoch) for epoch in order}) == 6
    other = np.concatenate([numbers(b) for b in take(Numbered(10), 15, seed=4)]).reshape(6, 10)
    assert not {tuple(epoch) for epoch in order} & {tuple(epoch) for epoch in other}


def test_a_set_smaller_than_a_batch_is_gone_through_again():
    (batch,) = take(Numbered(3), 1)
    assert sorted(numbers(batch)[:3]) == [0, 1, 2]


def test_processes_share_each_epoch():
    shards = [np.concatenate([numbers(b) for b in take(Numbered(16), 4, shard=(i, 2))]) for i in range(2)]
    whole = np.concatenate([numbers(b) for b in take(Numbered(16), 8)])
    np.testing.assert_array_equal(np.stack([s.reshape(4, 4) for s in shards], axis=1).ravel(), whole)


def test_a_run_may_go_on_with_another_number_of_processes():
    """The images of a step, and their order, do not depend on how many processes read them."""
    whole = np.stack([numbers(b) for b in take(Numbered(10), 9)])
    later = {"next_index": 4}
    halves = [take(Numbered(10), 5, state=later, batch_size=2, shard=(i, 2)) for i in range(2)]
    parts = np.concatenate([np.stack([numbers(b) for b in half]) for half in halves], axis=1)
    np.testing.assert_array_equal(parts, whole[4:])


def equal(first, second):
    return all(np.array_equal(a[k], b[k]) for a, b in zip(first, second, strict=True) for k in a)


def test_position_is_restored_exactly():
    source = shapes(size=16, train=10).splits["train"]
    whole = take(source, 9)
    batches = train_iterator(source, **SETTINGS)
    for _ in range(4):
        next(batches)
    state = batches.get_state()
    assert state == {"next_index": 4}
    assert equal([next(batches) for _ in range(5)], whole[4:])
    assert equal(take(source, 5, state=state), whole[4:])
    batches.set_state(state)  # backwards, in the same iterator
    assert equal([next(batches) for _ in range(5)], whole[4:])


def test_worker_processes_deliver_the_same_batches():
    source = shapes(size=16, train=10).splits["train"]
    assert equal(take(source, 5, workers=2, state={"next_index": 3}), take(source, 8)[3:])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_record_is_reported_plainly(workers):
    source = Relabeled(shapes(size=16).splits["train"], num_classes=3, ignore=255)
    with pytest.raises(UserError, match=r"^\d+: expected class ids 0 to 2 or 255 \(ignored\), got") as caught:
        take(source, 30, workers=workers)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert not getattr(caught.value, "__notes__", [])


def test_mistakes_are_refused():
    with pytest.raises(UserError, match="no image to train on"):
        take(Numbered(0), 1)
    with pytest.raises(UserError, match="batch_size=0"):
        take(Numbered(3), 1, batch_size=0)


@pytest.mark.parametrize(
    "source",
    [
        Numbered(9),
        Relabeled(Numbered(9), num_classes=7, ignore=255),  # of more classes than the batches may hold
        Relabeled(Numbered(9), num_classes=2, ignore=200, also_ignored=tuple(range(2, 7))),  # of another ignore label
    ],
)
def test_labels_that_nobody_has_checked_are(source):
    with pytest.raises(UserError, match="expected uint8 or uint16 below 2 or 255"):
        take(source, 3, num_labels=2)


def test_labels_are_checked_once(monkeypatch):
    """What a relabeled source lets through is not looked at again: a fifth of the time of a large label."""
    source = Relabeled([record(4, 4)], num_classes=7, ignore=255)
    assert Loader(source, (4, 4), 255, 7)(0, np.random.default_rng(0))["label"].max() < 7
    monkeypatch.setattr(Relabeled, "relabel", lambda self, label, file: np.full_like(label, 9))
    assert Loader(source, (4, 4), 255, 7)(0, np.random.default_rng(0))["label"].max() == 9


def test_evaluation_reads_everything_in_order_at_its_own_size():
    records = list(eval_records(Numbered(11)))
    assert [r["name"] for r in records] == [str(i) for i in range(11)]
    assert [r["image"].shape[1] for r in records[:3]] == [14, 16, 18]
    halves = [[r["name"] for r in eval_records(Numbered(11), shard=(i, 2))] for i in range(2)]
    assert halves == [[str(i) for i in range(0, 11, 2)], [str(i) for i in range(1, 11, 2)]]
    assert [r["name"] for r in eval_records(Numbered(11), start=3, stop=5)] == ["3", "4"]
    assert list(eval_records(Numbered(1), shard=(1, 2))) == []
    bad = Relabeled(shapes(size=16, val=9).splits["val"], num_classes=3, ignore=255)
    with pytest.raises(UserError, match="expected class ids"):
        list(eval_records(bad))


def record(height, width):
    rng = np.random.default_rng(height)
    blocks = rng.integers(0, 6, (height // 4, width // 4), np.uint8)
    label = np.kron(blocks, np.ones((4, 4), np.uint8))
    return {"image": np.repeat(20 * label[..., None], 3, 2), "label": label, "name": "a"}


def load(record, canvas, *, seed=0, **options):
    return Loader([record], canvas, 255, 7, **options)(0, np.random.default_rng(seed))


def test_what_is_smaller_is_centered_and_padded():
    small = record(8, 12)
    out = load(small, (13, 16))
    np.testing.assert_array_equal(out["image"][2:10, 2:14], small["image"])
    np.testing.assert_array_equal(out["label"][2:10, 2:14], small["label"])
    assert (out["label"] == 255).sum() == 13 * 16 - 96
    assert (out["image"][out["label"] == 255] == 127).all()


def test_what_fits_is_left_as_it_is():
    same = record(16, 24)
    out = load(same, (16, 24))
    np.testing.assert_array_equal(out["image"], same["image"])


def test_of_what_is_larger_a_window_is_cut_anywhere():
    """Nothing is shrunk: a window is a part of the image, and its places are spread evenly, both ends included."""
    large = {"image": np.arange(9 * 12, dtype=np.uint8).reshape(9, 12, 1).repeat(3, 2), "name": "a"}
    large["label"] = np.zeros((9, 12), np.uint8)
    corners = []
    for seed in range(300):
        image = load(large, (7, 10), seed=seed)["image"]
        top, left = divmod(int(image[0, 0, 0]), 12)
        np.testing.assert_array_equal(image, large["image"][top : top + 7, left : left + 10])
        corners.append((top, left))
    counts = np.array([corners.count((y, x)) for y in range(3) for x in range(3)])
    assert counts.sum() == 300 and (counts > 15).all()


def test_the_rule_of_resizing_comes_before_the_window():
    large = record(40, 80)
    whole = load(large, (10, 20), resize=Resize(factor=0.25))
    np.testing.assert_array_equal(whole["label"], large["label"][::4, ::4])  # each block becomes its pixel
    assert np.median(np.abs(whole["image"][..., 0].astype(int) - 20 * whole["label"])) < 30
    for seed in range(5):  # a window of the resized image, though only its part is resized
        part = load(large, (4, 6), seed=seed, resize=Resize(factor=0.25))
        places = np.lib.stride_tricks.sliding_window_view(whole["label"], (4, 6))
        (top, left), *_ = np.argwhere((places == part["label"]).all((2, 3)))
        assert (part["image"] == whole["image"][top : top + 4, left : left + 6]).mean() > 0.6  # but for its border


def test_balanced_windows_show_every_class_of_an_image_equally_often():
    label = np.zeros((60, 60), np.uint8)
    label[50, 3] = 4  # one pixel of 3600
    rare = {"image": np.zeros((60, 60, 3), np.uint8), "label": label, "name": "a"}
    seen = [(load(rare, (10, 10), seed=seed, balance=1.0)["label"] == 4).any() for seed in range(100)]
    plain = [(load(rare, (10, 10), seed=seed)["label"] == 4).any() for seed in range(100)]
    assert sum(plain) < 15 < 40 < sum(seen) < 65


def test_balanced_windows_are_not_centered_on_what_holds_nothing():
    """The labels there are ignored, so a window of them teaches nothing."""
    image, label = np.ones((60, 60, 1), np.uint16), np.zeros((60, 60), np.uint8)
    image[:, 30:], label[:, 30:] = 0, 4
    source = [{"image": image, "label": label, "name": "a"}]
    loader = Loader(source, (10, 10), 255, 7, Bands(("a",), "uint16", ((0, 255),), nodata=0), balance=1.0)
    assert all((loader(0, np.random.default_rng(seed))["label"] != 255).any() for seed in range(20))


class Windows:
    """A source that can read parts; reading the whole is an error."""

    def __init__(self, record):
        self.record = record

    def __len__(self):
        return 1

    def size(self, index):
        return self.record["label"].shape

    def __getitem__(self, index):
        raise AssertionError("the whole image was read")

    def read(self, index, window):
        top, left, height, width = window
        within = (slice(top, top + height), slice(left, left + width))
        return {**self.record, "image": self.record["image"][within], "label": self.record["label"][within]}


def test_only_the_window_is_read_where_the_source_can():
    large = record(40, 80)
    for seed in range(4):
        part = Loader(Windows(large), (8, 9), 255, 7)(0, np.random.default_rng(seed))
        whole = load(large, (8, 9), seed=seed)
        for key in ("image", "label"):
            np.testing.assert_array_equal(part[key], whole[key])


def test_windows_are_those_of_the_run_whatever_the_processes_and_workers():
    source = [{**record(40, 44), "name": str(i)} for i in range(6)]
    settings = {"canvas": (16, 12), "num_labels": 7}
    whole = take(source, 6, **settings)
    assert equal(take(source, 2, workers=2, state={"next_index": 4}, **settings), whole[4:])
    shards = [np.concatenate([b["label"] for b in take(source, 3, shard=(i, 2), **settings)]) for i in range(2)]
    merged = np.stack([s.reshape(3, 4, 16, 12) for s in shards], axis=1).reshape(24, 16, 12)
    np.testing.assert_array_equal(merged, np.concatenate([b["label"] for b in whole]))
    first, second = (np.concatenate([b["image"] for b in whole[3 * i : 3 * i + 3]]) for i in range(2))
    assert not {x.tobytes() for x in first} & {x.tobytes() for x in second}  # each epoch has its own places


def test_pixels_that_hold_nothing_are_ignored_and_padding_is_gray_in_stored_values():
    bands = Bands(("a", "b"), "uint16", ((100, 610), (0, 255)), nodata=0)
    image = np.full((4, 4, 2), 300, np.uint16)
    image[0, 0], image[1, 1, 0] = 0, 0
    out = load({"image": image, "label": np.ones((4, 4), np.uint8), "name": "a"}, (6, 4), bands=bands)
    assert out["image"].dtype == np.uint16
    assert out["image"][0, 0].tolist() == [354, 127]  # 127 of 255 between 100 and 610
    expected = np.ones((4, 4))
    expected[0, 0] = 255  # nothing in both bands
    np.testing.assert_array_equal(out["label"][1:5], expected)


def test_images_of_other_bands_than_the_sets_are_refused():
    with pytest.raises(UserError, match=r"a: expected an image of 1 bands \(gray\) of uint16.*got uint8 of shape"):
        load(record(8, 8), (8, 8), bands=Bands(("gray",), "uint16", ((0, 9),)))


KILLED = """
import signal, sys, time
from jaxseg.data.pipeline import train_iterator
from jaxseg.data.shapes import shapes
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a script inherits "ignore"
    batches = train_iterator(
        shapes(size=16).splits["train"], canvas=(16, 16), batch_size=2, seed=0, ignore=255, num_labels=7, workers=1
    )
    next(batches)
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print(next(batches)["image"].shape)
"""


def _workers(tmp_path):
    """Starts a program with a worker process; returns it and the process ids of its children."""
    program = tmp_path / "program.py"
    program.write_text(KILLED)
    process = subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    threads = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [int(child) for thread in threads for child in thread.read_text().split()]
    assert children
    return process, children


def _running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


KILLS_WORKERS = """
import multiprocessing, os, signal, sys, warnings
import numpy as np
from jaxseg.data.pipeline import train_iterator
from jaxseg.data.shapes import shapes

def batches(workers):
    source = shapes(size=16).splits["train"]
    return train_iterator(
        source, canvas=(16, 16), batch_size=2, seed=0, ignore=255, num_labels=7, workers=workers
    )

def kill_all():
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)

if __name__ == "__main__":
    warnings.simplefilter("always")
    ours, whole = batches(1), batches(0)
    for step in range(40):  # more than can lie in buffers when the worker dies
        if step == 3:
            kill_all()
        ours_next, whole_next = next(ours), next(whole)
        assert all(np.array_equal(ours_next[key], whole_next[key]) for key in whole_next), step
    ours.close(), whole.close()
    print("same")
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_may_be_one_image(workers):
    source = shapes(size=16).splits["train"]
    settings = dict(canvas=(16, 16), seed=0, ignore=255, num_labels=7)
    ones = train_iterator(source, batch_size=1, workers=workers, **settings)
    twos = train_iterator(source, batch_size=2, **settings)
    for _ in range(2):
        expected, first, second = next(twos), next(ones), next(ones)
        np.testing.assert_array_equal(np.concatenate([first["image"], second["image"]]), expected["image"])
    ones.close(), twos.close()


def test_batches_go_on_where_a_worker_was_killed(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(KILLS_WORKERS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, timeout=100)
    assert done.stdout == "same\n", done.stderr
    assert done.stderr.count("A process that reads images died: Worker process was terminated") == 1


def test_workers_that_die_again_and_again_end_the_run():
    batches = train_iterator(
        shapes(size=16).splits["train"], canvas=(16, 16), batch_size=2, seed=0, ignore=255, num_labels=7, workers=1
    )
    for _ in range(DEATHS):
        with pytest.warns(UserWarning, match="New ones go on from batch 0"):
            batches._count_death("exit code -9")
    with pytest.raises(UserError, match="died 4 times within 100 batches: exit code -9.*config.data.workers"):
        batches._count_death("exit code -9")
    batches.set_state({"next_index": 1000})
    with pytest.warns(UserWarning, match="New ones go on from batch 1000"):
        batches._count_death("exit code -9")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
def test_workers_neither_outlive_their_parent_nor_heed_ctrl_c(tmp_path):
    process, children = _workers(tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C: all of the group get it
    out, err = process.communicate(timeout=50)  # less than it sleeps
    assert out == "(2, 16, 16, 3)\n"
    assert "Traceback" not in err
    assert process.returncode == 0
    process, children = _workers(tmp_path)
    process.kill()
    process.communicate()
    deadline = time.time() + 10
    while any(map(_running, children)) and time.time() < deadline:
        time.sleep(0.1)
    assert not any(map(_running, children))
