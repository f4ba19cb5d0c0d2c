"""Batches: what is in them, in which order, and that the order survives a restart and the choice of workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxseg.checks import UserError
from jaxseg.data.dataset import Relabeled
from jaxseg.data.pipeline import eval_records, letterbox, train_iterator
from jaxseg.data.shapes import shapes

SETTINGS = {"canvas": (16, 16), "batch_size": 4, "seed": 3, "ignore": 255, "num_classes": 7}


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
    np.testing.assert_array_equal(np.stack(shards, axis=1).ravel(), whole)


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
    with pytest.raises(UserError, match="expected uint8 below 2 or 255"):
        take(Numbered(9), 3, num_classes=2)


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
    blocks = rng.integers(0, 9, (height // 4, width // 4), np.uint8)
    label = np.kron(blocks, np.ones((4, 4), np.uint8))
    return {"image": np.repeat(20 * label[..., None], 3, 2), "label": label}


def test_fit_pads_what_is_smaller():
    small = record(8, 12)
    out = letterbox(small, (13, 16), 255)
    np.testing.assert_array_equal(out["image"][2:10, 2:14], small["image"])
    np.testing.assert_array_equal(out["label"][2:10, 2:14], small["label"])
    assert (out["label"] == 255).sum() == 13 * 16 - 96
    assert (out["image"][out["label"] == 255] == 127).all()


def test_fit_leaves_what_fits():
    same = record(16, 24)
    out = letterbox(same, (16, 24), 255)
    np.testing.assert_array_equal(out["image"], same["image"])


@pytest.mark.parametrize("canvas,inside", [((20, 20), (10, 20)), ((10, 40), (10, 20)), ((7, 20), (7, 14))])
def test_fit_reduces_what_is_larger(canvas, inside):
    large = record(40, 80)
    out = letterbox(large, canvas, 255)
    assert out["image"].shape == (*canvas, 3)
    kept = out["label"] != 255
    rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
    assert (len(rows), len(columns)) == inside
    expected = Image.fromarray(large["label"]).resize(inside[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(out["label"][kept].reshape(inside), expected)
    if inside == (10, 20):  # by exactly four: each block becomes its pixel, and the image agrees with the label
        np.testing.assert_array_equal(out["label"][kept].reshape(inside), large["label"][::4, ::4])
        difference = np.abs(out["image"][kept][:, 0].astype(int) - 20 * out["label"][kept])
        assert np.median(difference) < 30


KILLED = """
import signal, sys, time
from jaxseg.data.pipeline import train_iterator
from jaxseg.data.shapes import shapes
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a script inherits "ignore"
    batches = train_iterator(
        shapes(size=16).splits["train"], canvas=(16, 16), batch_size=2, seed=0, ignore=255, num_classes=7, workers=1
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
