"""Evaluating a run on data that is not what it learned from: refused, or taken on request and recorded."""

import json

import numpy as np
import pytest
from PIL import Image

import jaxseg
from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.evaluation.data import find_dataset


def _add_image(root):
    for part in ("images", "labels"):
        shape = (16, 20, 3) if part == "images" else (16, 20)
        Image.fromarray(np.zeros(shape, np.uint8)).save(root / "val" / part / "9.png")


def test_more_images_are_refused_or_taken_and_recorded(run, tmp_path):
    _add_image(run.root)
    before = {path: path.read_bytes() for path in run.workdir.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="split 'val': 3 images there, 4 here(.|\n)*--accept-data"):
        call("eval", str(run.workdir), "--root", str(run.root), "--out", str(tmp_path / "out"))
    with pytest.warns(UserWarning, match="split 'val': 3 images there, 4 here"):
        call("eval", str(run.workdir), "--root", str(run.root), "--out", str(tmp_path / "out"), "--accept-data")
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["data"] == ["split 'val': 3 images there, 4 here"]
    assert {path: path.read_bytes() for path in run.workdir.rglob("*") if path.is_file()} == before


def test_scores_of_the_runs_own_data_say_nothing_of_it(run, tmp_path):
    call("eval", str(run.workdir), "--out", str(tmp_path / "out"))
    assert "data" not in json.loads((tmp_path / "out" / "scores.json").read_text())


def test_other_names_of_classes_are_refused(run):
    legend = json.loads((run.root / "classes.json").read_text())
    legend["classes"][1]["name"] = "roof"
    (run.root / "classes.json").write_text(json.dumps(legend))
    trained = jaxseg.load(run.workdir)
    with pytest.raises(UserError, match="classes: other names, ground, house there; ground, roof here"):
        find_dataset(trained)
    with pytest.warns(UserWarning, match="classes: other names"):
        find_dataset(trained, accept=True)
    assert find_dataset(trained, name="folder", root=str(run.root))[1] == "val"  # other data, by name
