"""The shell completes commands, flags, values, names and config keys."""

import shutil
import subprocess

import pytest

from jaxseg.cli import COMMANDS
from jaxseg.cli.program import main


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    import contextlib

    path = tmp_path_factory.mktemp("completion") / "jaxseg.bash"
    with path.open("w") as file, contextlib.redirect_stdout(file):
        assert main(["completion", "bash"]) == 0
    return path


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
    ],
)
def test_bash(script, line, expected):
    words = " ".join(f"'{word}'" for word in line)
    program = f"source {script}; COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}; _jaxseg; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell, capsys, tmp_path):
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "--no-execute", str(tmp_path / "script")], check=True)
