"""Whose a workdir is: compared before anything is written."""

import dataclasses
import json

import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.data import create_dataset
from jaxseg.experiment.claim import claim_workdir
from jaxseg.experiment.starts import append_start, moved, read_starts
from jaxseg.experiment.workdir import has_checkpoint, read_config


def _config(steps=10):
    config = default_config()
    config.train.steps = steps
    return config


def _dataset(**fields):
    return dataclasses.replace(create_dataset("shapes", size=16, train=4, val=2), **fields)


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has a checkpoint."""
    claim_workdir(_config(), _dataset(), tmp_path).write(0)
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    return tmp_path


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_until_it_is_written_a_claim_leaves_no_trace(tmp_path):
    claim_workdir(_config(), _dataset(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"classes": _dataset().classes[::-1]}, "the same in another order"),
        ({"classes": (*_dataset().classes, "x"), "palette": ((0, 0, 0),) * 8}, "7 there, 8 here"),
        ({"ignore": 250}, "ignore label: 255 there, 250 here"),
    ],
)
def test_other_data_is_refused_and_nothing_is_written(run, fields, words):
    before = _files(run)
    with pytest.raises(UserError, match="holds a run of other data") as error:
        claim_workdir(_config(), _dataset(**fields), run)
    assert words in str(error.value)
    assert _files(run) == before


def test_other_data_that_is_accepted_is_recorded(run):
    claim = claim_workdir(_config(), _dataset(ignore=250), run, accept_data=True)
    assert "ignore label: 255 there, 250 here" in " ".join(claim.sentences(5, 10, lambda update: 0.1))
    claim.write(5)
    stored = json.loads((run / "dataset.json").read_text())
    assert stored["ignore"] == 250
    (entry,) = stored["history"]
    assert (entry["step"], entry["accepted"]) == (5, ["ignore label: 255 there, 250 here"])
    assert entry["before"]["ignore"] == 255
    claim_workdir(_config(), _dataset(ignore=250), run).write(6)  # it is the run's data from now on
    assert json.loads((run / "dataset.json").read_text())["history"] == [entry]


def test_another_number_of_classes_is_never_accepted(run):
    other = _dataset(classes=(*_dataset().classes, "x"), palette=((0, 0, 0),) * 8)
    with pytest.raises(UserError, match=f"7 there, 8 here(.|\n)*--from {run}"):
        claim_workdir(_config(), other, run, accept_data=True)


def test_a_changed_setting_is_recorded_and_the_schedule_said(run):
    longer = _config(30)
    claim = claim_workdir(longer, _dataset(), run)
    said = " ".join(claim.sentences(10, 30, lambda update: 0.3 - 0.01 * update))
    assert "changed: config.train.steps: 10 there, 30 here" in said
    assert "the run is now 30 steps long; from step 10 on the learning rate follows the schedule 'poly'" in said
    assert "0.2 at first and 0.01 at the end" in said
    claim.write(10)
    (entry,) = json.loads((run / "config.json").read_text())["history"]
    assert (entry["step"], entry["changed"]) == (10, {"train.steps": [10, 30]})
    assert read_config(run).train.steps == 30
    assert "history" not in read_config(run)  # a record, no setting
    shorter = claim_workdir(_config(20), _dataset(), run)
    shorter.write(12)
    assert [e["step"] for e in json.loads((run / "config.json").read_text())["history"]] == [10, 12]


def test_a_refused_setting_leaves_the_workdir_as_it_was(run):
    before = _files(run)
    other = _config()
    other.data.batch_size = 2
    with pytest.raises(UserError, match="config.data.batch_size: 16 there, 2 here"):
        claim_workdir(other, _dataset(), run)
    assert _files(run) == before


def test_the_weights_that_a_run_started_from_stay_its_own(tmp_path):
    first = _config()
    first.model.update(weights="runs/other", replace_head=True)
    claim_workdir(first, _dataset(), tmp_path).write(0)
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    claim_workdir(_config(), _dataset(), tmp_path).write(10)  # without --from
    assert read_config(tmp_path).model.weights == "runs/other"


def test_a_run_past_its_end_is_told_how_to_go_on(run):
    claim = claim_workdir(_config(), _dataset(), run)
    claim.check_end(10, 10)
    with pytest.raises(UserError, match=r"at step 12, past its end: config.train.steps=10 makes 10 steps"):
        claim.check_end(12, 10)


def test_what_is_missing_is_said(run):
    (run / "config.json").unlink()
    (run / "dataset.json").unlink()
    said = " ".join(claim_workdir(_config(), _dataset(), run).sentences(10, 10, lambda update: 0.1))
    assert "config.json is missing: whether this is the config of the run can't be told" in said
    assert "dataset.json is missing: whether this is the data of the run can't be told" in said


@pytest.mark.parametrize("name", ["config.json", "dataset.json"])
@pytest.mark.parametrize("text", ["", '{"a":', "[1]", "\xff", "[" * 100_000])
def test_a_damaged_file_is_a_sentence(run, name, text):
    (run / name).write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=name):
        claim_workdir(_config(), _dataset(), run)


def test_a_description_of_nothing_is_compared_with_nothing(run):
    (run / "dataset.json").write_text('{"classes": 3, "splits": 5, "history": 7, "bands": []}')
    claim_workdir(_config(), _dataset(), run).write(10)
    assert json.loads((run / "dataset.json").read_text())["splits"]["train"]["count"] == 4


def test_a_half_written_first_checkpoint_is_none(tmp_path):
    (tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp").mkdir(parents=True)
    assert not has_checkpoint(tmp_path)


HERE = {
    "versions": {"jax": "0.10.2", "numpy": "2.0"},
    "backend": "cpu",
    "devices": ["cpu:0"],
    "processes": 1,
    "commit": "a" * 40,
}


def test_every_start_is_recorded_and_a_move_is_said(tmp_path):
    append_start(tmp_path, 0, HERE)
    assert moved(tmp_path, HERE) == []
    there = {**HERE, "versions": {"jax": "0.11.0", "numpy": "2.0"}, "backend": "gpu", "devices": ["a", "b"]}
    there["commit"] = "b" * 40
    (said,) = moved(tmp_path, there)
    for words in ("jax 0.10.2 -> 0.11.0", "backend cpu -> gpu", "devices 1 -> 2", "commit aaaaaaaaa -> bbbbbbbbb"):
        assert words in said
    assert "numpy" not in said
    assert "statistics are of other parts of a batch" in moved(tmp_path, there, own_norms=True)[1]
    assert moved(tmp_path, HERE, own_norms=True) == []
    append_start(tmp_path, 7, there)
    assert [(start["step"], start["backend"]) for start in read_starts(tmp_path)] == [(0, "cpu"), (7, "gpu")]


def test_the_one_start_of_an_older_run_is_read(tmp_path):
    (tmp_path / "environment.json").write_text(json.dumps(HERE))
    assert moved(tmp_path, {**HERE, "backend": "tpu"})[0].startswith("since this run's last start: backend cpu -> tpu.")
    append_start(tmp_path, 3, HERE)
    assert [start.get("step") for start in read_starts(tmp_path)] == [None, 3]


@pytest.mark.parametrize("text", ["{", "[3]", "[" * 100_000])
def test_a_damaged_record_of_starts_stops_nothing_and_is_kept(tmp_path, text):
    (tmp_path / "environment.json").write_text(text)
    assert "environment.json can't be read" in moved(tmp_path, HERE)[0]
    append_start(tmp_path, 3, HERE)
    assert [start["step"] for start in read_starts(tmp_path)] == [3]
    assert (tmp_path / "environment.1.json").read_text() == text


def test_a_record_of_starts_that_says_other_things_is_no_crash(tmp_path):
    (tmp_path / "environment.json").write_text('{"versions": 3, "devices": 4, "backend": ["x"]}')
    assert "backend ['x'] -> cpu" in moved(tmp_path, HERE)[0]
