"""SegFormer and UPerNet, and every decoder that smp allows on encoders without c1, against smp."""

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxseg.checks import UserError
from jaxseg.pretrained import from_smp

# Models, and their images where these are not the usual ones.
CASES = [
    ("segformer", "resnet18", {"decoder_segmentation_channels": 32}),
    ("segformer", "resnet18", {"encoder_depth": 3}),
    ("segformer", "mit_b0", {}),
    ("upernet", "resnet18", {"encoder_depth": 4, "decoder_channels": 32}),
    ("upernet", "mit_b0", {"decoder_channels": 48}),
    ("upernet", "tu-convnext_tiny", {"decoder_channels": 32}),
    ("unet", "mit_b0", {"decoder_attention_type": "scse", "size": (45, 67), "decoder_channels": (32, 32, 16, 16, 16)}),
    ("unet", "mit_b0", {"encoder_depth": 4, "in_channels": 4, "decoder_channels": (16, 16, 8, 8)}),
    ("manet", "mit_b0", {"decoder_channels": (32, 24, 16, 8, 8)}),
    ("fpn", "mit_b0", {}),
    ("pspnet", "mit_b0", {}),
    ("pan", "mit_b0", {"size": (128, 192)}),
    ("deeplabv3", "mit_b0", {"decoder_channels": 32}),
    ("deeplabv3plus", "mit_b0", {"decoder_channels": 32}),
]


@pytest.fixture
def make(peers, randomize):
    """smp's model with random weights, made the same twice."""

    def make(arch, encoder, **arguments):
        peers.torch.manual_seed(0)
        return randomize(peers.smp.create_model(arch, encoder, encoder_weights=None, classes=5, **arguments))

    return make


@pytest.mark.parametrize("arch, encoder, arguments", CASES)
def test_logits_are_smps(make, to_torch, forward, assert_close, count, record, arch, encoder, arguments):
    arguments = dict(arguments)
    shape = (3, *arguments.pop("size", (64, 96)), arguments.get("in_channels", 3))
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    theirs = make(arch, encoder, **arguments).eval()
    model, variables = from_smp(arch, encoder, theirs.state_dict(), num_classes=5, **arguments)
    expected = theirs(to_torch(images))
    error = assert_close(forward(model, variables, images)["logits"], expected)
    expected.sum().backward()
    used = sum(value.numel() for value in theirs.parameters() if value.grad is not None)
    assert count(variables["params"]) == used
    said = ", ".join(f"{name}={value}" for name, value in arguments.items())
    row = {"architecture": arch, "encoder": encoder.removeprefix("tu-"), "peer": f"smp {said}".strip()}
    record(**row, outputs="logits", error=error, ours=used, theirs=used)


@pytest.mark.parametrize("arch, encoder", [("segformer", "mit_b0"), ("upernet", "resnet18")])
def test_training_updates_the_statistics_alike(make, images, to_torch, forward, assert_close, arch, encoder):
    width = {"segformer": "decoder_segmentation_channels", "upernet": "decoder_channels"}[arch]
    theirs = make(arch, encoder, **{width: 32}).train()
    for part in theirs.modules():
        if type(part).__name__ == "DropPath":
            part.drop_prob = 0.0
    model, variables = from_smp(arch, encoder, theirs.state_dict(), num_classes=5, **{width: 32})
    outputs, statistics = forward(model, variables, images, train=True)
    assert_close(outputs["logits"], theirs(to_torch(images)))
    updated = from_smp(arch, encoder, theirs.state_dict(), num_classes=5, **{width: 32})[1]["batch_stats"]
    statistics, updated = flatten_dict(statistics), flatten_dict(updated)
    assert statistics.keys() == updated.keys()
    for path, value in statistics.items():
        limit = 1e-4 * np.abs(updated[path]).max()
        np.testing.assert_allclose(value, updated[path], rtol=1e-4, atol=limit, err_msg=str(path))


def test_another_normalization_of_smps_is_an_error():
    with pytest.raises(UserError, match="decoder_use_norm='layernorm'"):
        from_smp("upernet", "resnet18", {}, num_classes=5, decoder_use_norm="layernorm")
