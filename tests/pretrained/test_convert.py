"""Strictness, layouts and the adapted first convolution of conversions from state dicts."""

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from jaxseg.checks import UserError
from jaxseg.encoders import create_encoder
from jaxseg.pretrained import encoder_from_timm, read_state_dict
from jaxseg.pretrained.convert import LEAVES, variables_template


def torch_state_dict(name, **options):
    """A state dict that fits the encoder, each array full of random numbers."""
    encoder = create_encoder(name, **options)
    random = np.random.default_rng(0)
    state_dict = {}
    for (collection, *module, leaf), shape in flatten_dict(variables_template(encoder)).items():
        shape = shape.shape if len(shape.shape) < 4 else tuple(shape.shape[axis] for axis in (3, 2, 0, 1))
        key = f"{encoder.torch_key(tuple(module))}.{LEAVES[collection, leaf]}"
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
