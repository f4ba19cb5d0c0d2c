"""The shell completes commands, flags, values, names and config keys."""

import contextlib
import os
import pty
import select
import shutil
import subprocess
import time

import pytest

from jaxseg.cli import COMMANDS
from jaxseg.cli.program import main


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The folder with the scripts, each named as its shell."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        with (folder / shell).open("w") as file, contextlib.redirect_stdout(file):
            assert main(["completion", shell]) == 0
    return folder


@pytest.mark.parametrize(
    "line,expected",
    [
        (["jaxseg", "tr"], {"train"}),
        (["jaxseg", ""], set(COMMANDS)),
        (["jaxseg", "eval", "--refine", ""], {"crf", "guided"}),
        (["jaxseg", "train", "shapes"], {"shapes_unet"}),
        (["jaxseg", "train", "--work"], {"--workdir"}),
        (["jaxseg", "train", "--config.optim.l"], {"--config.optim.lr="}),
        (
            ["jaxseg", "train", "--config.loss.terms.foc"],
            {"--config.loss.terms.focal=", "--config.loss.terms.focal_tversky="},
        ),
        (["jaxseg", "show", "deeplabv3p"], {"deeplabv3plus"}),
        (["jaxseg", "list", "los"], {"losses"}),
        (["jaxseg", "show", "--encoder", "resnet10"], {"resnet101"}),
        (["jaxseg", "convert", "tim"], {"timm"}),
        (["jaxseg", "train", "mine/"], set()),  # files, by the shell itself
        (["jaxseg", "train", "--workdir", "camvid"], set()),  # so here, and no recipe
        (["jaxseg", "train", "--config.data.root", "=", "camvid"], set()),
        (["jaxseg", "train", "--config.data.name", "=", "ca"], {"camvid"}),
        (["jaxseg", "train", "--config.optim.schedule", "="], {"poly", "cosine", "steps", "constant"}),
        (["jaxseg", "train", "--config.optim.lr", "=", "1", "--work"], {"--workdir"}),
    ],
)
def test_bash(scripts, line, expected):
    words = " ".join(f"'{word}'" for word in line)
    program = (
        f"source {scripts}/bash; COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}; _jaxseg; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected, done.stderr


# A line, and what the Tab key makes of it where one thing alone can follow. Below them is a file camvid.txt.
LINES = [
    ("jaxseg tr", "jaxseg train "),
    ("jaxseg train --work", "jaxseg train --workdir "),
    ("jaxseg train --workdir cam", "jaxseg train --workdir camvid.txt "),
    ("jaxseg train --config.optim.lr=1 --work", "jaxseg train --config.optim.lr=1 --workdir "),
    ("jaxseg train --config.data.name=ca", "jaxseg train --config.data.name=camvid "),
    ("jaxseg train --config.optim.sched", "jaxseg train --config.optim.schedule="),
    ("jaxseg show unetp", "jaxseg show unetplusplus "),
    ("jaxseg eval data --ref", "jaxseg eval data --refine "),  # data is a folder here, not the command
]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_tab_key(scripts, shell, tmp_path):
    """In the shell itself, on a terminal."""
    if not shutil.which(shell):
        return
    (tmp_path / "camvid.txt").touch()
    flags = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"]}[shell]
    child, terminal = pty.fork()
    if not child:
        os.chdir(tmp_path)
        os.execvpe(shell, [shell, *flags, "-i"], {**os.environ, "HOME": str(tmp_path), "TERM": "dumb", "PS1": ""})

    def answer(typed, end):
        """Types it and reads until a line has that end."""
        os.write(terminal, typed.encode())
        seen, late = "", time.monotonic() + 60
        while f"{end}\r\n" not in seen.replace("\r\r", "\r"):
            assert time.monotonic() < late, seen
            if select.select([terminal], [], [], 1)[0]:
                seen += os.read(terminal, 65536).decode()
        return seen

    try:
        answer(f"stty -echo; source {scripts}/{shell}; echo rea''dy\n", "ready")
        for line, expected in LINES:
            # What is typed on ends the completion; then the line is made an argument of echo: its start, its end.
            seen = answer(f"{line}\t@\x01echo '<\x05>' en''d\n", "end")
            assert f"<{expected}@>" in seen, seen
    finally:
        os.close(terminal)
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_fish(scripts, tmp_path):
    if not shutil.which("fish"):
        return
    (tmp_path / "camvid.txt").touch()
    for line, expected in LINES:
        program = f"source {scripts}/fish; complete -C '{line}'"
        run = subprocess.run(["fish", "--no-config", "-c", program], cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert run.stdout.split()[:1] == expected.removesuffix("=").split()[-1:], line
