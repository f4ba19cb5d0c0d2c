"""What may change of a run's config when it goes on."""

import json
import re
from pathlib import Path

import pytest

from jaxseg.checks import UserError
from jaxseg.config import OPEN, default_config
from jaxseg.experiment.changes import MAY_CHANGE, STARTED_FROM, SWITCHES, Change, changes, check_changes, may_change
from jaxseg.experiment.limits import flatten

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"


def _json(**values):
    config = default_config()
    config.train.steps = 10
    for key, value in values.items():
        group, name = key.split("__")
        config[group][name] = value
    return json.loads(config.to_json())


def test_every_key_exists():
    known = [*flatten(default_config()), *OPEN]
    for key in (*MAY_CHANGE, *SWITCHES, *STARTED_FROM):
        assert any(name == key or (key.endswith(".") and name.startswith(key)) for name in known), key


@pytest.mark.parametrize(
    "key, value", [("train__steps", 20), ("optim__lr", 0.5), ("eval__batch_size", 3), ("optim__clip_norm", 2.0)]
)
def test_what_may_change_goes_through(key, value):
    there = _json(optim__clip_norm=1.0)
    here = _json(**{"optim__clip_norm": 1.0, key: value})
    (found,) = changes(there, here)
    assert (found.key, found.here) == (key.replace("__", "."), value)
    check_changes([found], "run")


def test_factors_by_path_may_come_change_and_go():
    """The optimizer's state does not know of them."""
    some, others = _json(optim__lr_factors={"head": 10.0}), _json(optim__lr_factors={"head": 5.0, "*/bias": 2.0})
    for there, here, count in ((_json(), some, 1), (some, others, 2), (others, _json(), 2)):
        found = changes(there, here)
        assert len(found) == count
        check_changes(found, "run")


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("optim__beta1", 0.5, "config.optim.beta1: 0.9 there, 0.5 here"),
        ("data__batch_size", 4, "config.data.batch_size: 16 there, 4 here"),
        ("loss__terms", {"dice": 1.0}, "config.loss.terms.cross_entropy: 1.0 there, absent here"),
        ("loss__terms", {"dice": 1.0}, "config.loss.terms.dice: absent there, 1.0 here"),
        ("eval__bucket", 64, "config.eval.bucket: 0 there, 64 here"),
        ("optim__clip_norm", 1.0, "config.optim.clip_norm: 0.0 there, 1.0 here: the optimizer has no memory for it"),
        ("optim__encoder_lr_factor", 0.1, "it is off at 1"),
    ],
)
def test_all_else_is_refused_by_key_there_and_here(key, value, words):
    with pytest.raises(UserError, match="holds a run of another config") as error:
        check_changes(changes(_json(), _json(**{key: value})), "runs/a")
    assert words in str(error.value)
    assert "--from runs/a" in str(error.value)


def test_a_setting_that_came_later_had_its_default():
    there = _json()
    del there["checkpoint"]["keep"], there["data"]["balance"]
    assert changes(there, _json()) == []
    (found,) = changes(there, _json(data__balance=0.5))
    assert str(found) == "config.data.balance: 0.0 there, 0.5 here"


def test_a_loss_that_is_not_the_runs_is_no_default():
    """The defaults have cross entropy among the terms."""
    (first, _) = changes(_json(loss__terms={"dice": 1.0}), _json())
    assert str(first) == "config.loss.terms.cross_entropy: absent there, 1.0 here"


def test_a_setting_of_former_times_stands_in_nobodys_way():
    there = _json()
    there["eval"]["metric"] = "miou"
    assert changes(there, _json()) == []


def test_what_a_run_started_from_need_not_be_said_again():
    there = _json(model__weights="runs/other", model__replace_head=True)
    assert changes(there, _json()) == []
    (found,) = changes(there, _json(model__weights="runs/third", model__replace_head=True))
    with pytest.raises(UserError, match="config.model.weights: runs/other there, runs/third here"):
        check_changes([found], "run")


def test_the_documented_table_is_that_of_the_code():
    rows = re.findall(r"^\| `([\w.*]+)` \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    written = {key.removesuffix("*"): effect for key, effect in rows}
    assert written == MAY_CHANGE


def test_a_group_is_all_below_it():
    assert may_change("log.images") and may_change("eval.crf.iterations") and may_change("eval.metric_options.a.b")
    assert may_change("logs") is None and may_change("eval.metrics_") is None


def test_an_empty_value_is_seen():
    assert str(Change("train.remat", "", "blocks")) == "config.train.remat: '' there, blocks here"
