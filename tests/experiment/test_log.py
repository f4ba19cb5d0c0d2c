"""The log: rows, nan, resuming."""

import json
import math
import os

import pytest

from jaxseg.checks import UserError
from jaxseg.experiment.log import TRAIN_BAR, Log, environment, read_rows, train_line


def test_rows_come_back_and_nan_is_null(tmp_path):
    log = Log(tmp_path, resume_step=0, tensorboard=False)
    log.write("train", 1, loss=0.5)
    log.write("eval", 1, miou=0.25, loss=math.inf, **{"iou/ring": math.nan})
    log.close()
    first, second = read_rows(tmp_path / "metrics.jsonl")
    assert (first["kind"], first["step"], first["loss"]) == ("train", 1, 0.5)
    assert second["iou/ring"] is None and second["loss"] is None  # JSON has neither nan nor infinity


def test_resuming_drops_the_rows_that_will_come_again(tmp_path):
    log = Log(tmp_path, resume_step=0, tensorboard=False)
    for step in range(1, 6):
        log.write("train", step, loss=0.0)
    log.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "ste')  # a kill in the middle of a line
    log = Log(tmp_path, resume_step=3, tensorboard=False)
    log.write("train", 4, loss=1.0)
    log.close()
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


def test_tensorboard_events_are_written_without_tensorflow(tmp_path):
    log = Log(tmp_path, resume_step=0, tensorboard=True)
    log.write("train", 1, loss=0.5)
    log.close()
    assert any(p.stat().st_size for p in (tmp_path / "tensorboard").iterdir())


def test_environment_names_versions_and_devices():
    found = environment()
    assert found["versions"]["jax"]
    assert found["devices"]


def test_the_bar_of_a_run_shows_its_score_in_80_columns():
    from tqdm import tqdm

    text = tqdm.format_meter(
        300, 2560, 60, ncols=80, prefix="train", bar_format=TRAIN_BAR, postfix=train_line(0.12345, 43.21, 0.8562)
    )
    assert len(text) <= 80
    assert "300/2560" in text and "loss 0.1235" in text and text.endswith("val mIoU 0.8562, 43.2 images/s")
    assert "val" not in train_line(0.5, 1.0, None)


ROW = '{"kind": "eval", "step": 2, "miou": 0.5}\n'


@pytest.mark.parametrize(
    "text, step, words, kept",
    [
        (f"\xff\n{ROW}5\n", 2, "has 2 damaged lines; scores that they told are not known any more", True),
        (ROW, 0, "is of a run up to step 2, which has no checkpoint to go on from", True),
        ("", 4, "says nothing of the steps up to 4: the best of them is not known", False),
        (ROW, 2, "", False),
        (f'{ROW}{{"kind": "tr', 2, "", False),  # a kill in the middle of a line
    ],
)
def test_what_is_lost_is_said_and_the_file_is_kept(tmp_path, capsys, text, step, words, kept):
    path = tmp_path / "metrics.jsonl"
    path.write_text(text, encoding="latin-1")
    Log(tmp_path, resume_step=step, tensorboard=False).close()
    said = capsys.readouterr().err
    assert words in said
    assert bool(said) == bool(words)
    assert path.read_text() == (ROW if step and text else "")
    assert (tmp_path / "metrics.1.jsonl").exists() == kept
    if kept:
        assert (tmp_path / "metrics.1.jsonl").read_text(encoding="latin-1") == text


def test_rows_without_an_end_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match="metrics.jsonl can't be read: it is a pipe.*Move it away"):
        read_rows(tmp_path / "metrics.jsonl")
    with (tmp_path / "sparse.jsonl").open("wb") as sparse:
        sparse.truncate(2**34)
    with pytest.raises(UserError, match="it has more than 256 MiB"):
        read_rows(tmp_path / "sparse.jsonl")


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "train", "step": 4, "loss": [1]},
        {"kind": "eval", "step": 4, "miou": 10**400},
        {"kind": "eval", "step": 4, "miou": math.inf},
        {"kind": "eval", "step": True, "miou": 0.5},
        {"kind": "train", "step": -4},
        {"kind": ["train"], "step": 4},
    ],
)
def test_rows_that_no_chart_can_show_are_damaged(tmp_path, row, capsys):
    good = {"kind": "eval", "step": 2, "time": "now", "miou": 0.5, "iou/ring": None}
    (tmp_path / "metrics.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(row)}\n")
    assert read_rows(tmp_path / "metrics.jsonl") == [good]
    Log(tmp_path, resume_step=2, tensorboard=False).close()
    assert "has 1 damaged line;" in capsys.readouterr().err
