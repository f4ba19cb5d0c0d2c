"""A suite writes rows as they come, goes on where it was stopped, and makes a table for the docs."""

import json
import subprocess

import pytest

from jaxseg.bench import suite
from jaxseg.bench.cases import SUITES
from jaxseg.bench.program import OWN
from jaxseg.bench.tables import markdown
from jaxseg.cli.program import call
from jaxseg.encoders import ENCODERS
from jaxseg.models import MODELS

FIGURES = {"init_s": 0.1, "trace_s": 1.0, "compile_s": 2.0, "step_s": 0.5, "forward_s": 0.2, "parameters": 10}
FIGURES |= {"program_bytes": 2**30, "first_step_s": 0.6, "images_per_s": 4.0}
RATIO = {"peer": "smp", "step_s": 0.8, "forward_s": 0.9, "step_of_turns": 0.81, "forward_of_turns": 0.91}


@pytest.fixture
def started(monkeypatch):
    """The commands that the suite starts, which measure nothing here; the one of unet_mobilenet_v2 fails once."""
    commands, real = [], subprocess.run

    def run(command, **options):
        if "--case" not in command:
            return real(command, **options)
        commands.append(command[3:])
        if "cpu:unet_mobilenet_v2" in command and len(commands) < 3:
            options["stdout"].write("something\nerror: no memory\n")
            options["stdout"].flush()
            return subprocess.CompletedProcess(command, 1)
        name = command[command.index("--case") + 1].partition(":")[2]
        case = SUITES["cpu"][name].__dict__
        machine = {"device": "a card", "jax": "1", "python": "3", "load": 0.5}
        row = {"case": case, "machine": machine, "steps": 3, "jaxseg": FIGURES, "ratio": RATIO}
        row["smp"] = {**FIGURES, "version": "0.6", "torch": "2", "step_s": 0.625, "peak_bytes": 2**31}
        with open(command[command.index("--out") + 1], "w") as file:
            json.dump(row, file)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(suite.subprocess, "run", run)
    return commands


def test_a_suite_goes_on_where_it_was(started, tmp_path, capsys):
    words = ["bench", "--suite", "cpu", "--peer", "smp", "--steps", "3"]
    both = ["--only", "unet_r34", "unet_mobilenet_v2", "--out", str(tmp_path)]
    assert call(*words, *both) == 1  # one of the two failed
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == ["unet_r34", "unet_mobilenet_v2"]
    assert rows[1]["error"] == "exit 1: error: no memory"
    assert rows[0]["command"] == "jaxseg bench --case cpu:unet_r34 --steps 3 --peer smp"
    assert {"commit", "date", "machine", "seconds"} <= rows[0].keys()
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"name": "cut o')  # a run that was killed while it wrote
    assert call(*words, *both) == 0
    assert [command[2] for command in started] == ["cpu:unet_r34", "cpu:unet_mobilenet_v2", "cpu:unet_mobilenet_v2"]
    page = (tmp_path / "table.md").read_text()
    assert "unet / mobilenet_v2, 4 x 256 x 256, float32, beside smp | 500.0 ms | 625.0 ms | 0.80 (0.81)" in page
    assert "smp 0.6, torch 2" in page and "1.00 GiB, 2.00 GiB" in page and "failed" not in page
    assert call(*words, "--only", "unet_r34", "--out", str(tmp_path / "other")) == 0
    assert len(started) == 4  # another folder, another run


def test_every_case_can_be_made():
    for cases in SUITES.values():
        for case in cases.values():
            assert case.model in MODELS or case.model in OWN
            assert not case.encoder or case.encoder in ENCODERS


def test_a_published_figure_stands_in_the_table():
    case = SUITES["gpu"]["nnunet_2d"]
    row = {"suite": "gpu", "name": "nnunet_2d", "case": case.__dict__, "jaxseg": FIGURES, "steps": 3, "commit": "c"}
    row |= {"machine": {"device": "a card", "jax": "1", "python": "3", "load": 0.5}, "command": "x", "date": "2026"}
    assert "| 4.0 | 927 (nnU-Net in 2-D" in markdown([row]) and "busy" not in markdown([row])
    row["machine"] |= {"cores": 2, "load": 4.5}
    assert "busy with other work (load 4.5)" in markdown([row])


def test_the_real_thing_once(tmp_path):
    """A case in a process of its own, started by the program that users start."""
    assert call("bench", "--suite", "tiny", "--steps", "1", "--out", str(tmp_path)) == 0
    (row,) = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert row["jaxseg"]["step_s"] > 0 and row["case"]["size"] == [32, 32]
    assert "segformer / plain, 2 x 32 x 32, float32" in (tmp_path / "table.md").read_text()
