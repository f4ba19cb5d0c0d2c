"""User errors end a program in one screen; everything else keeps its traceback."""

import errno
import os
import subprocess
import sys

import pytest

from jaxseg.checks import Interrupted, UserError
from jaxseg.cli import launch


def _raiser(error):
    def raise_it():
        raise error

    return raise_it


def test_a_commands_own_status_is_the_programs():
    """`predict` says so that images did not read."""
    assert [launch.guard(lambda status=status: status) for status in (1, 0, None)] == [1, 0, 0]


def test_ctrl_c_has_the_shells_status(capsys):
    assert launch.guard(_raiser(KeyboardInterrupt())) == 128 + 2
    assert "Interrupted" in capsys.readouterr().err


def test_user_errors_are_printed(capsys):
    assert launch.guard(_raiser(UserError("What. Do this."))) == 1
    assert capsys.readouterr().err == "\nerror: What. Do this.\n"


def test_a_stop_on_request_has_the_signals_status(capsys):
    assert launch.guard(_raiser(Interrupted("Stopped.", 143))) == 143
    assert "error" not in capsys.readouterr().err


def test_bugs_keep_their_traceback():
    with pytest.raises(ValueError, match="bug"):
        launch.guard(_raiser(ValueError("bug")))


def test_full_disk(capsys):
    assert launch.guard(_raiser(OSError(28, "No space left on device"))) == 1
    assert "Free some space" in capsys.readouterr().err


def test_a_file_that_cannot_be_opened_is_named(tmp_path, capsys):
    assert launch.guard(lambda: (tmp_path / "nowhere" / "file").write_text("")) == 1
    text = capsys.readouterr().err
    assert f"{tmp_path / 'nowhere' / 'file'}: No such file or directory" in text
    assert "Traceback" not in text


def test_colors_are_for_terminals_that_want_them(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert launch._colored()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not launch._colored()


def test_a_warning_is_one_line():
    code = "import warnings; from jaxseg.cli import launch; launch.quieten(); warnings.warn('Mind this.')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "warning: Mind this.\n"


@pytest.mark.parametrize(
    "code, said",
    [
        (errno.ENOSPC, "The disk is full, or a quota"),
        (errno.EFBIG, "The disk is full, or a quota"),
        (errno.EEXIST, "a/b is a file, or a broken link, where a folder is needed"),
        (errno.EACCES, "a/b: Permission denied"),
        (errno.EDQUOT, "The disk is full, or a quota"),
        (errno.EROFS, "a/b: Read-only file system. Nothing may be written there"),
        (errno.EIO, "a/b: Input/output error. The disk, or the connection to it, has failed"),
        (errno.ESTALE, "a/b: Stale file handle. The file system has lost the file"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(code, said, capsys):
    assert launch.guard(_raiser(OSError(code, os.strerror(code), "a/b"))) == 1
    assert said in capsys.readouterr().err


def test_an_error_of_the_system_that_names_no_file_is_a_sentence(capsys):
    assert launch.guard(_raiser(OSError(errno.EIO, os.strerror(errno.EIO)))) == 1
    assert "A file: Input/output error" in capsys.readouterr().err
    with pytest.raises(OSError, match="a library's own"):
        launch.guard(_raiser(OSError("a library's own")))


def test_no_name_steers_the_terminal(capsys):
    launch.fail("a\x1b[2J\x9b\u202e\udcff.png\ndoes not read")
    assert capsys.readouterr().err == "\nerror: a\\x1b[2J\\x9b\\u202e\\udcff.png\ndoes not read\n"


def test_an_endless_line_is_cut(capsys):
    launch.fail("a" * 10**6)
    assert len(capsys.readouterr().err) < 4000


def test_only_the_main_thread_ends_the_program_with_a_traceback():
    code = (
        "import sys, threading; from jaxseg.cli import launch; launch.quieten()\n"
        "def show(text): sys.excepthook(ValueError, ValueError(text), None)\n"
        "thread = threading.Thread(target=show, args=['noise']); thread.start(); thread.join()\n"
        "show('Event loop is closed'); show('cause')"
    )
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert "cause" in text and "noise" not in text and "Event loop" not in text


def test_what_tensorstore_says_after_a_failed_write_is_left_out():
    """It says so dozens of times, from threads whose errors nobody can catch."""
    code = (
        "from jaxseg.cli import launch; launch.quieten()\n"
        "class Says:\n"
        "    def __init__(self, text): self.text = text\n"
        "    def __del__(self): raise RuntimeError(self.text)\n"
        "Says('Event loop is closed'); Says('cause')"
    )
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert "cause" in text and "Event loop" not in text
