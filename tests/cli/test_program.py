"""The program: its commands, what it says of a line that it cannot read, and the width of what it prints."""

import subprocess
import sys

import pytest

import jaxseg
from jaxseg.cli import COMMANDS
from jaxseg.cli.program import main, make_parser


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_in_80_columns_with_its_flags_explained(name, capsys):
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: jaxseg {name} ")
    assert max(map(len, text.splitlines())) <= 80
    for action in make_parser(name)._actions:
        assert action.help, f"jaxseg {name}: {action.option_strings or action.dest} is not explained"
        if isinstance(action.default, int | float) and not isinstance(action.default, bool):
            assert f"(default: {action.default})" in " ".join(text.split()), action.dest


def test_the_overview_has_every_command_in_80_columns(capsys):
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert {line.split()[0] for line in lines if line.startswith("  ")} == set(COMMANDS)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxseg {jaxseg.__version__}\n"


@pytest.mark.parametrize(
    "words,said",
    [
        (["lst"], "Unknown command 'lst'. Did you mean 'list'?"),
        (["train", "shapes_unet", "--worksdir", "x"], "Unknown flag '--worksdir'. Did you mean '--workdir'?"),
        (["train", "shapes_unet", "--hlep"], "Unknown flag '--hlep'. Did you mean '--help'?"),
        (["train", "shapes_unet", "--optim.lr=3"], "Unknown flag '--optim.lr'. Did you mean '--config.optim.lr'?"),
        (["train", "shapes_unet", "--optim.lrr=3"], "Unknown flag '--optim.lrr'. Did you mean '--config.optim.lr'?"),
        (["predict"], "required: MODEL, IMAGE, --out"),
        (["train", "shapes_unet"], "required: --workdir"),
        (["eval", "run", "--refine", "xx"], "invalid choice: 'xx'"),
        (["league", "--out", "x", "--steps", "many"], "invalid int value: 'many'"),
    ],
)
def test_a_line_that_cannot_be_read_is_one_screen(words, said, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) <= 20
    assert max(map(len, error.partition("usage:")[2].splitlines()), default=0) <= 80


def test_show_says_what_a_run_is(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert main(["show", str(tmp_path)]) == 1
    assert "is the folder of a run or a bundle; show takes what it was made of" in capsys.readouterr().err


def test_list_names_the_section_that_was_meant(capsys):
    assert main(["list", "modells"]) == 1
    assert "Unknown section 'modells'. Did you mean 'models'?" in capsys.readouterr().err


def test_train_and_eval_want_one_source(capsys):
    for words in (["train", "--workdir", "x"], ["train", "a", "--config", "b", "--workdir", "x"], ["eval"]):
        assert main(words) == 1
        assert "error: Name one" in capsys.readouterr().err


def test_list_fits_the_terminal_and_names_everything(capsys, monkeypatch):
    import jaxseg

    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    names = {line.split()[0] for line in lines if line.startswith("  ")}
    for table in (jaxseg.MODELS, jaxseg.ENCODERS, jaxseg.LOSSES, jaxseg.metrics.METRICS, jaxseg.DATASETS):
        assert names >= set(table)
    assert "shapes_unet" in names


def test_list_tells_variants_apart_and_marks_weights(capsys):
    assert main(["list", "encoders"]) == 0
    text = capsys.readouterr().out
    rows = {line.split()[0]: line for line in text.splitlines()}
    assert len({rows[name].split(maxsplit=1)[1] for name in ("resnet50", "resnet101", "resnet152")}) == 3
    assert "imagenet weights" in rows["efficientnet_lite0"]
    assert "models:" not in text


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m jaxseg list | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout == "configs:\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "line,code,said",
    [
        ("--version >&-", 0, ""),
        ("lst 2>&-", 2, ""),
        ("--version >/dev/full", 1, "error: What the command prints can't be written: No space left on device."),
    ],
)
def test_streams_that_are_closed_or_full(line, code, said):
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m jaxseg {line}'], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert said in done.stderr
    assert bool(done.stderr) == bool(said)
