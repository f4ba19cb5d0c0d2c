"""The log: rows, nan, resuming."""

import math

from jaxseg.experiment.log import Log, environment, read_rows


def test_rows_come_back_and_nan_is_null(tmp_path):
    log = Log(tmp_path, resume_step=0, tensorboard=False)
    log.write("train", 1, loss=0.5)
    log.write("eval", 1, miou=0.25, **{"iou/ring": math.nan})
    log.close()
    first, second = read_rows(tmp_path / "metrics.jsonl")
    assert (first["kind"], first["step"], first["loss"]) == ("train", 1, 0.5)
    assert second["iou/ring"] is None


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
