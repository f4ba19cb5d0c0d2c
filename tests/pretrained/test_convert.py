"""Strictness, layouts and the adapted first convolution of conversions from state dicts."""

import os
import re

import chex
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from jaxseg.checks import UserError
from jaxseg.encoders import create_encoder
from jaxseg.pretrained import encoder_from_timm, encoder_from_torchvision, read_state_dict
from jaxseg.pretrained.convert import LEAVES, respell, variables_template
from jaxseg.pretrained.names import find_source


def torch_state_dict(name, library="timm", **options):
    """A state dict that fits the encoder, each array full of random numbers."""
    encoder = create_encoder(name, **options)
    random = np.random.default_rng(0)
    state_dict = {}
    for (collection, *module, leaf), shape in flatten_dict(variables_template(encoder)).items():
        shape = shape.shape if len(shape.shape) < 4 else tuple(shape.shape[axis] for axis in (3, 2, 0, 1))
        key = f"{find_source(encoder, name, library).key(tuple(module))}.{LEAVES[collection, leaf]}"
        state_dict[key] = random.normal(size=shape).astype(np.float32)
    return state_dict


@pytest.fixture(scope="module")
def resnet18():
    return torch_state_dict("resnet18")


def test_kernels_change_their_layout_and_the_classifier_is_left_out(resnet18):
    classifier = {"fc.weight": np.zeros((1000, 512)), "bn1.num_batches_tracked": np.array(7)}
    variables = encoder_from_timm("resnet18", {**resnet18, **classifier})
    kernel = variables["params"]["stage2_block0"]["shortcut"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel[0, 0].T, resnet18["layer2.0.downsample.0.weight"][:, :, 0, 0])
    kernel = variables["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel[2, 3, 1, 5], resnet18["conv1.weight"][5, 1, 2, 3])
    variance = variables["batch_stats"]["stage4_block1"]["conv2"]["norm"]["var"]
    np.testing.assert_array_equal(variance, resnet18["layer4.1.bn2.running_var"])


def test_everything_that_does_not_fit_is_listed(resnet18):
    broken = {**resnet18, "layer5.0.conv1.weight": np.zeros(3), "conv1.weight": np.zeros((32, 3, 7, 7))}
    del broken["layer1.0.bn1.running_mean"]
    with pytest.raises(UserError) as error:
        encoder_from_timm("resnet18", broken)
    for part in (
        "encoder 'resnet18'",
        "1 missing: layer1.0.bn1.running_mean",
        "1 not known: layer5.0.conv1.weight",
        "1 of another shape: conv1.weight (expected (7, 7, 3, 64), got (7, 7, 3, 32)",
    ):
        assert part in str(error.value)


def test_another_depth_is_an_error_even_where_its_entries_would_do(resnet18):
    with pytest.raises(UserError, match="does not fit encoder 'resnet34'"):
        encoder_from_timm("resnet34", resnet18)


def test_the_arrays_are_copies(resnet18):
    variables = encoder_from_timm("resnet18", resnet18)
    assert not np.shares_memory(variables["params"]["stem"]["norm"]["scale"], resnet18["bn1.weight"])


def test_a_shallower_encoder_takes_what_it_has(resnet18):
    shallow = torch_state_dict("resnet18", depth=2)
    for state_dict in (resnet18, shallow):
        variables = encoder_from_timm("resnet18", state_dict, depth=2)
        assert set(variables["params"]) == {"stem", "stage1_block0", "stage1_block1"}
    partial = {**shallow, "layer4.1.bn2.weight": resnet18["layer4.1.bn2.weight"]}
    with pytest.raises(UserError, match="missing: layer"):
        encoder_from_timm("resnet18", partial, depth=2)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_first_convolution_for_other_channels(resnet18, channels):
    rgb = encoder_from_timm("resnet18", resnet18)["params"]["stem"]["conv"]["kernel"]
    other = encoder_from_timm("resnet18", resnet18, in_channels=channels)["params"]["stem"]["conv"]["kernel"]
    expected = [rgb.sum(2)] if channels == 1 else [rgb[:, :, i % 3] * 3 / channels for i in range(channels)]
    np.testing.assert_allclose(other, np.stack(expected, 2), rtol=1e-5, atol=1e-6)


def test_safetensors(tmp_path, resnet18):
    path = tmp_path / "resnet18.safetensors"
    save_file(resnet18, path)
    assert read_state_dict(str(path)).keys() == resnet18.keys()
    variables = encoder_from_timm("resnet18", path)
    np.testing.assert_array_equal(variables["params"]["stem"]["norm"]["scale"], resnet18["bn1.weight"])


def test_an_encoder_without_published_weights_says_so():
    with pytest.raises(UserError, match="'plain' has no published weights"):
        encoder_from_timm("plain", {})


def test_a_prefix_is_found_and_said(resnet18):
    wrapped = {"model": {f"module.{key}": value for key, value in resnet18.items()}, "epoch": 3}
    with pytest.warns(UserWarning, match="entry 'model'") as said:
        variables = encoder_from_timm("resnet18", wrapped)
    assert ["'module.'" in str(each.message) for each in said] == [False, True]
    if os.environ.get("JAXSEG_CHECK_TYPES") != "1":  # whose checks stand between the code and its caller
        assert {each.filename for each in said} == {__file__}
    np.testing.assert_array_equal(variables["params"]["stem"]["norm"]["scale"], resnet18["bn1.weight"])


def test_the_first_convolution_hints_at_the_channels(resnet18):
    six = {**resnet18, "conv1.weight": np.ones((64, 6, 7, 7), np.float32)}
    with pytest.raises(UserError, match=r"conv1\.weight .* images of 6 channels: give in_channels=6\."):
        encoder_from_timm("resnet18", six)
    assert encoder_from_timm("resnet18", six, in_channels=6)["params"]["stem"]["conv"]["kernel"].shape[2] == 6


def flat(path, leaf):
    """What older files call a leaf of MobileNetV2."""
    kind = ("conv", "norm").index(path[-1])
    if path[0] in ("stem", "last"):
        return f"features.{0 if path[0] == 'stem' else 18}.{kind}.{leaf}"
    stage, block = map(int, path[0].removeprefix("stage").split("_block"))
    number = sum((1, 2, 3, 4, 3, 3, 1)[:stage]) + block + 1
    layers = ("depthwise", "project") if number == 1 else ("expand", "depthwise", "project")  # a ReLU after each
    return f"features.{number}.conv.{3 * layers.index(path[1]) + kind}.{leaf}"


def test_mobilenet_v2_of_old_is_one_flat_sequential():
    encoder = create_encoder("mobilenet_v2")
    for library in ("torchvision", "smp"):
        source = find_source(encoder, "mobilenet_v2", library)
        old, today = {}, {}
        for collection, *path, leaf in flatten_dict(variables_template(encoder)):
            name = LEAVES[collection, leaf]
            old[flat(path, name)] = today[f"{source.key(tuple(path))}.{name}"] = (*path, leaf)
        assert old.keys() != today.keys()
        assert respell(old, source.spellings) == today
        assert respell(today, source.spellings) == today


def test_densenets_published_files_spell_their_names_otherwise():
    small = {"layers": (2, 1, 1, 1)}
    today = torch_state_dict("densenet121", "torchvision", **small)
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value for key, value in today.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    found = [encoder_from_torchvision("densenet121", arrays, **small) for arrays in (old, today)]
    chex.assert_trees_all_equal(*found)
