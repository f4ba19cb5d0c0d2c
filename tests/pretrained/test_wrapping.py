"""State dicts as people have them: in checkpoints of trainers, with prefixes before the names."""

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.pretrained import read_state_dict
from jaxseg.pretrained.state_dict import read_entries
from jaxseg.pretrained.wrapping import ENTRIES, Entries, drop_prefix, find_prefix

WEIGHTS = {"fc.weight": np.ones((2, 3)), "fc.bias": np.arange(2.0)}
OPTIMIZER = {"state": {0: {"exp_avg": np.ones(3), "step": 3}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


@pytest.mark.parametrize("name", ENTRIES)
def test_weights_are_found_in_a_checkpoint(name):
    beside = {"epoch": 3, "optimizer": OPTIMIZER, "best": np.array(0.7), "args": {"lr": 0.1}, "loss": 0.2, "tag": "a"}
    entries = read_entries({**beside, name: WEIGHTS})
    assert entries.arrays.keys() == WEIGHTS.keys()
    np.testing.assert_array_equal(entries.arrays["fc.bias"], [0, 1])
    (note,) = entries.notes
    assert f"the file's entry '{name}'" in note
    assert all(f"'{key}'" in note for key in beside)


def test_a_wrapper_in_a_wrapper():
    entries = read_entries({"model": {"state_dict": WEIGHTS, "arch": "unet"}})
    assert entries.arrays.keys() == WEIGHTS.keys()
    assert len(entries.notes) == 2


def test_plain_weights_are_taken_before_averaged_ones():
    averaged = {key: value + 1 for key, value in WEIGHTS.items()}
    entries = read_entries({"ema": averaged, "model": WEIGHTS})
    np.testing.assert_array_equal(entries.arrays["fc.bias"], WEIGHTS["fc.bias"])
    assert "'ema'" in entries.notes[0]


def test_a_wrapper_of_another_name_is_taken_if_there_is_but_one():
    assert read_entries({"my_weights": WEIGHTS, "epoch": 3}).arrays.keys() == WEIGHTS.keys()
    with pytest.raises(UserError, match="several dictionaries of tensors: student, teacher"):
        read_state_dict({"student": WEIGHTS, "teacher": WEIGHTS})


@pytest.mark.parametrize("stray", [{"epoch": 3}, {"inner": {"a": np.ones(2)}}])
def test_what_is_no_array_among_weights_is_an_error(stray):
    with pytest.raises(UserError, match=f"no tensors: {next(iter(stray))}"):
        read_state_dict({**WEIGHTS, "fc2.bias": np.ones(2), **stray})


def test_a_plain_state_dict_needs_no_word():
    assert read_entries(WEIGHTS).notes == ()


def test_what_torch_compile_adds_is_left_out_wherever_it_is():
    entries = read_entries({"_orig_mod.encoder._orig_mod.fc.bias": np.ones(2), "head.bias": np.ones(1)})
    assert list(entries.arrays) == ["encoder.fc.bias", "head.bias"]
    assert "torch.compile" in entries.notes[0]


def test_the_prefix_is_what_explains_most():
    keys = ["model.conv1.weight", "model.fc.bias", "model.layer1.conv1.weight", "ema_model.conv1.weight", "std"]
    assert find_prefix(keys, "conv1.weight", ["conv1.weight", "fc.bias"]) == ("model.", 2)
    assert find_prefix(keys, "conv2.weight") == ("", 0)
    assert find_prefix(["conv1.weight", "layer1.conv1.weight"], "conv1.weight") == ("", 0)  # the shortest


def test_what_is_left_out_is_said():
    entries = Entries({"module.a": np.ones(1), "n_averaged": np.ones(1), "mean": np.ones(1)})
    arrays, (note,) = drop_prefix(entries, "module.")
    assert list(arrays) == ["a"]
    assert "'module.' (DataParallel)" in note
    assert "2 entries without it are not read: n_averaged, mean" in note
    assert drop_prefix(entries, "") is entries
