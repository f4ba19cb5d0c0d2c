"""Commands on a run that may not be written to. The system's own calls refuse, whoever asks; root is refused, too."""

import contextlib
import errno
import os
import sys

import pytest

from jaxseg.cli import launch
from jaxseg.cli.program import call
from jaxseg.training.loop import train

_refusing = []  # (folder, errno): a hook can't be taken out again
_PATHS = {"os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2, "os.truncate": 1}


def _refuse(event, arguments):
    if not _refusing or not (event == "open" or event in _PATHS):
        return
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        return
    folder, number = _refusing[0]
    for path in arguments[: _PATHS.get(event, 1)]:
        if isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(str(folder)):
            raise OSError(number, os.strerror(number), os.fspath(path))


@pytest.fixture(scope="module")
def hook():
    sys.addaudithook(_refuse)


@contextlib.contextmanager
def _refused(folder, number):
    """Makes a folder one of a file system that is mounted read-only, or of somebody else's."""
    _refusing.append((folder, number))
    try:
        yield
    finally:
        _refusing.clear()


def _contents(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "number, said",
    [(errno.EROFS, "Read-only file system. Nothing may be written there"), (errno.EACCES, "Permission denied. Check")],
)
def test_nothing_can_be_written_to_a_run(hook, run, tmp_path, capsys, number, said):
    """Each command says so at once: what took hours would be lost."""
    before, images = _contents(run.workdir), str(run.root / "val" / "images")
    with _refused(run.workdir, number):
        for name, more in (("eval", ()), ("errors", ()), ("tune-crf", ()), ("eval", ("--calibrate", "temperature"))):
            out = ("--out", str(tmp_path / "out")) if more else ()
            assert launch.guard(call, name, str(run.workdir), *out, *more) == 1
            text = capsys.readouterr().err
            assert said in text and str(run.workdir) in text
            assert f"{name} val" not in text and "calibrate val" not in text, "it computed first"
        assert launch.guard(call, "predict", str(run.workdir), images, "--out", str(run.workdir / "out")) == 1
        assert said in capsys.readouterr().err
        assert launch.guard(train, run.config, run.workdir) == 1
        assert said in capsys.readouterr().err
        assert launch.guard(train, run.config, run.workdir / "below") == 1
        assert said in capsys.readouterr().err
    assert _contents(run.workdir) == before


def test_results_of_a_run_that_is_read_only_go_elsewhere(hook, run, tmp_path, capsys):
    before, out = _contents(run.workdir), tmp_path / "out"
    with _refused(run.workdir, errno.EROFS):
        assert launch.guard(call, "eval", str(run.workdir), "--out", str(out)) == 0
        assert "eval val" in capsys.readouterr().err
        images = str(run.root / "val" / "images" / "0.png")
        assert launch.guard(call, "predict", str(run.workdir), images, "--out", str(out)) == 0
    assert {"scores.json", "0_label.png"} <= {path.name for path in out.iterdir()}
    assert _contents(run.workdir) == before
