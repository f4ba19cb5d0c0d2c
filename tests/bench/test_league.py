"""The commands that compare models, and losses, on the embedded shapes."""

import json

import pytest

from jaxseg.bench import ablation, league
from jaxseg.cli.program import main
from jaxseg.data.shapes import CLASSES
from jaxseg.experiment.build import build_model
from jaxseg.experiment.limits import check_config
from jaxseg.models import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_small_config(name):
    config = league.make_config(name, 1)
    check_config(config)
    assert build_model(config, len(CLASSES)) is not None


def test_the_league_trains_what_is_asked_for_once(tmp_path, capsys):
    command = ["league", "--out", str(tmp_path), "--models", "segnet_basic", "--steps", "1", "--images", "1"]
    assert main(command) == 0
    (row,) = json.loads((tmp_path / "league.json").read_text())
    assert row["model"] == "segnet_basic"
    assert 0 < row["miou"] < 1
    assert "| segnet_basic | " in capsys.readouterr().out
    assert (tmp_path / "league.png").stat().st_size > 1000
    logged = (tmp_path / "segnet_basic" / "metrics.jsonl").read_text()
    assert main(command) == 0
    assert (tmp_path / "segnet_basic" / "metrics.jsonl").read_text() == logged


def test_a_wrong_name_is_an_error_before_training(tmp_path, capsys):
    assert main(["league", "--out", str(tmp_path), "--models", "segnet_basick"]) != 0
    assert "Did you mean 'segnet_basic'" in capsys.readouterr().err
    assert main(["ablation", "--out", str(tmp_path), "--losses", "dice+focl"]) != 0
    assert "Did you mean 'focal'" in capsys.readouterr().err


def test_the_ablation_orders_its_rows():
    rows = [
        {"loss": name, "miou": miou, "rarest_iou": 0.25, "boundary_f": 0.5, "overhead": 0.031}
        for name, miou in (("dice", 0.5), ("focal+dice", 0.75))
    ]
    lines = ablation.table(rows, ablation.rarest_class()).splitlines()
    assert any(f"rarest class, {name}" in lines[0] for name in CLASSES[1:])
    assert lines[2:] == ["| focal + dice | 0.750 | 0.250 | 0.500 | +3.1 |", "| dice | 0.500 | 0.250 | 0.500 | +3.1 |"]
