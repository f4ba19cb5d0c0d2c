"""One training at a time has a workdir."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxseg.checks import UserError
from jaxseg.experiment.lock import locked
from jaxseg.experiment.workdir import check_workdir


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path):
    code = (
        "import sys; from pathlib import Path; from jaxseg.experiment.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"is in use: .*, process {first.pid} trains in it"):
        with locked(tmp_path):
            pass
    first.kill()  # not even a kill leaves the lock behind
    first.wait()
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text().strip().endswith(f"process {os.getpid()}")


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_lock_that_is_a_link_overwrites_nothing(tmp_path, link):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    link(tmp_path / "run" / ".lock", tmp_path / "precious")
    with pytest.raises(UserError, match="is a link, which jaxseg never makes"):
        with locked(tmp_path / "run"):
            pass
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_lock_that_is_no_file_is_said(tmp_path, make):
    make(tmp_path / ".lock")
    with pytest.raises(UserError, match="is a folder, a pipe or a device"):
        with locked(tmp_path):
            pass


def test_a_workdir_that_is_a_broken_link_is_said(tmp_path):
    (tmp_path / "run").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="is a link to .*gone, which is not there"):
        check_workdir(tmp_path / "run")
