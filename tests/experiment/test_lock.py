"""One training at a time has a workdir."""

import os
import subprocess
import sys

import pytest

from jaxseg.checks import UserError
from jaxseg.experiment.lock import locked


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
