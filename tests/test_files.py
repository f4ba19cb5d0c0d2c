"""Files are written whole or not at all."""

import json
import math

import numpy as np
import pytest
from flax.core import FrozenDict

from jaxseg.files import atomic_path, write_json, write_text


def test_json_comes_back_and_folders_are_made(tmp_path):
    path = tmp_path / "deep" / "scores.json"
    write_json(path, {"miou": 0.5, "größe": [1, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"miou": 0.5, "größe": [1, None]}
    assert path.read_text().endswith("}\n")
    assert [file.name for file in path.parent.iterdir()] == ["scores.json"]


def test_numbers_are_as_json_has_them(tmp_path):
    array = np.array([[0.5, math.nan]], np.float32)
    write_json(
        tmp_path / "a.json", {"iou": array, "count": np.int64(3), "pair": (1.5, math.inf), "frozen": FrozenDict(a=1)}
    )
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"iou": [[0.5, None]], "count": 3, "pair": [1.5, None], "frozen": {"a": 1}}
    assert "NaN" not in text and "Infinity" not in text


def test_a_failure_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "config.json"
    write_text(path, "old")
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"loss": object()})

    def cut_short():
        with atomic_path(path) as part:
            part.write_text("half of the n")
            assert path.read_text() == "old"  # not before the block has ended
            raise RuntimeError("a kill")

    with pytest.raises(RuntimeError, match="a kill"):
        cut_short()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
