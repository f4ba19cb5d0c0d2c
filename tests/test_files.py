"""Files are written whole or not at all."""

import errno
import json
import math
import os
import resource
import signal

import numpy as np
import pytest
from flax.core import FrozenDict

from jaxseg.checks import UserError
from jaxseg.files import LARGEST, atomic_path, read_json, write_json, write_text


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


def test_a_write_that_fails_names_the_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as error:
        write_text(tmp_path / "folder", "text")
    assert error.value.filename == str(tmp_path / "folder")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
        with pytest.raises(OSError) as error:  # the system names no file where a write fails
            write_text(tmp_path / "large", "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(tmp_path / "large"))
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_names_of_files_that_are_no_utf8_are_escaped(tmp_path):
    write_text(tmp_path / "a.txt", "caf\udce9.png")
    assert (tmp_path / "a.txt").read_text() == r"caf\udce9.png"


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b"[" * 10**6, b" " * (LARGEST + 1)])
def test_what_is_no_json_is_said(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json can't be read: .* Write it anew\."):
        read_json(tmp_path / "a.json", "Write it anew.")


def test_pipes_and_devices_are_not_read(tmp_path):
    """A pipe is waited for without end, and a device has no end."""
    os.mkfifo(tmp_path / "config.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    for path in (tmp_path / "config.json", tmp_path / "zero.json", tmp_path):
        with pytest.raises(UserError, match="it is a pipe, a device or a folder, and not a file. Copy it again"):
            read_json(path)


def test_a_link_in_the_place_of_the_part_is_not_written_through(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    with atomic_path(tmp_path / "run" / "scores.json") as part:
        part.touch()
    part.symlink_to(tmp_path / "precious")
    write_json(tmp_path / "run" / "scores.json", {"miou": 1.0})
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "run" / "scores.json").is_symlink()
