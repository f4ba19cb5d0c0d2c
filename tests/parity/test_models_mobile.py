"""Models on MobileNets and EfficientNets against smp: the same logits, and statistics in training."""

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxseg.pretrained import from_smp

SIZE = (1, 64, 96, 3)


@pytest.fixture
def make_smp(peers, randomize):
    def make_smp(arch, encoder, **arguments):
        peers.torch.manual_seed(0)
        return randomize(peers.smp.create_model(arch, encoder, encoder_weights=None, classes=5, **arguments))

    return make_smp


@pytest.mark.parametrize(
    "arch, encoder, arguments",
    [
        ("unet", "mobilenet_v2", {"encoder_depth": 4, "decoder_channels": (64, 32, 16, 8)}),
        ("deeplabv3plus", "efficientnet-b0", {"encoder_output_stride": 8}),
        ("fpn", "tu-tf_efficientnet_b0", {}),
        ("deeplabv3", "timm-mobilenetv3_small_100", {"encoder_output_stride": 16}),
        ("pspnet", "tu-mobilenetv2_100", {}),
        ("linknet", "timm-tf_efficientnet_lite0", {}),
    ],
)
def test_models_are_smps(make_smp, to_torch, forward, assert_close, count, record, arch, encoder, arguments):
    theirs = make_smp(arch, encoder, **arguments).eval()
    model, variables = from_smp(arch, encoder, theirs.state_dict(), num_classes=5, **arguments)
    images = np.random.default_rng(3).normal(size=SIZE).astype(np.float32)
    expected = theirs(to_torch(images))
    error = assert_close(forward(model, variables, images)["logits"], expected)
    expected.sum().backward()
    used = sum(value.numel() for value in theirs.parameters() if value.grad is not None)
    assert count(variables["params"]) == used
    said = ", ".join(f"{name}={value}" for name, value in arguments.items())
    row = {"architecture": arch, "encoder": encoder, "peer": f"smp {said}".strip(), "outputs": "logits"}
    record(**row, error=error, ours=used, theirs=used)


def test_an_efficientnet_of_smp_pads_for_its_training_size_at_any_other(make_smp, to_torch, forward, assert_close):
    """At odd sizes its levels are smaller than their nominal size; B1's deep ones are padded differently at any."""
    theirs = make_smp("unet", "efficientnet-b1", encoder_depth=3, decoder_channels=(16, 8, 8)).eval()
    arguments = {"encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    model, variables = from_smp("unet", "efficientnet-b1", theirs.state_dict(), num_classes=5, **arguments)
    images = np.random.default_rng(3).normal(size=(1, 61, 93, 3)).astype(np.float32)
    assert_close(forward(model, variables, images)["logits"], theirs(to_torch(images)))


def test_training_an_smp_model_updates_the_statistics_alike(make_smp, to_torch, forward, assert_close):
    encoder = "mobilenet_v2"
    theirs = make_smp("unet", encoder).train()
    model, variables = from_smp("unet", encoder, theirs.state_dict(), num_classes=5)
    images = np.random.default_rng(3).normal(size=(3, 64, 96, 3)).astype(np.float32)
    outputs, statistics = forward(model, variables, images, train=True)
    assert_close(outputs["logits"], theirs(to_torch(images)))
    _, expected = from_smp("unet", encoder, theirs.state_dict(), num_classes=5)
    expected, statistics = flatten_dict(expected["batch_stats"]), flatten_dict(statistics)
    assert statistics.keys() == expected.keys()
    for path, value in statistics.items():
        assert_close(value, expected[path], what=str(path))
