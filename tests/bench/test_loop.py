"""The loop's benchmark makes a folder that trains, and takes the loop's speed from the run's own rows."""

import json

from jaxseg.bench import loop
from jaxseg.bench.loop import ROWS, make_folder, text
from jaxseg.cli.program import call
from jaxseg.data import create_dataset


def test_a_folder_is_made(tmp_path):
    make_folder(tmp_path / "made", 5, (40, 48), classes=3)
    dataset = create_dataset("folder", str(tmp_path / "made"))
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 5, "val": 4}
    record = dataset.splits["train"][0]
    assert record["image"].shape == (40, 48, 3) and record["label"].shape == (40, 48)
    assert dataset.num_classes == 3


def test_reading_step_and_loop(tmp_path, capsys, monkeypatch):
    """The step alone, whose program is the loop's, is not compiled once more for this test."""
    monkeypatch.setattr(loop, "_step", lambda experiment, steps: 1000.0)
    make_folder(tmp_path / "given", 4, (32, 32), classes=3)
    words = ["bench", "--loop", str(tmp_path / "given"), "--model", "segformer", "--encoder", "plain", "--size", "32"]
    assert call(*words, "--batch", "2", "--steps", str(ROWS), "--out", str(tmp_path / "out.json")) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["folder"] == str(tmp_path / "given") and found["images"] == 4
    assert min(found["reading"], found["step"], found["loop"]) > 0
    assert found["waiting"] == 1 - found["loop"] / found["step"]
    assert 0 < found["processor"] <= 1.5
    printed = capsys.readouterr().out
    assert "reading alone" in printed and "JPEG files are made" not in printed
    assert "8 processes read" in text({**found, "workers": 8})
