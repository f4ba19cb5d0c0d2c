"""Whole models against segmentation_models_pytorch: `from_smp` and the same logits."""

import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.pretrained import from_smp, from_torchvision
from jaxseg.pretrained.smp import ARCHITECTURES

# beyond smp's defaults
VARIATIONS = [
    ("unet", "resnet18", {"decoder_attention_type": "scse", "decoder_channels": (64, 48, 32, 32, 16)}),
    ("unet", "tu-resnet18", {"encoder_depth": 3, "decoder_channels": (32, 16, 8)}),
    ("fpn", "resnet18", {"decoder_segmentation_channels": 64, "decoder_interpolation": "bilinear"}),
    ("pspnet", "resnet18", {"encoder_depth": 5, "psp_out_channels": 64, "upsampling": 32}),
    ("deeplabv3", "tu-resnet18", {"encoder_output_stride": 16, "decoder_aspp_separable": True}),
    ("deeplabv3plus", "resnet18", {"decoder_atrous_rates": (2, 4, 6), "decoder_aspp_separable": False}),
]


@pytest.fixture
def check(peers, randomise, images, to_torch, forward, assert_close, count, record):
    """Converts smp's model and compares the logits."""

    def check(arch, encoder, *, pictures=images, in_channels=3, **arguments):
        peers.torch.manual_seed(0)
        theirs = peers.smp.create_model(
            arch, encoder, encoder_weights=None, classes=5, in_channels=in_channels, **arguments
        )
        randomise(theirs).eval()
        model, variables = from_smp(
            arch, encoder, theirs.state_dict(), num_classes=5, in_channels=in_channels, **arguments
        )
        logits = forward(model, variables, pictures)["logits"]
        assert logits.shape == (*pictures.shape[:3], 5)
        expected = theirs(to_torch(pictures))
        error = assert_close(logits, expected)
        expected.sum().backward()
        # smp also holds parameters that nothing uses, e.g. stages of the encoder beyond encoder_depth
        used = sum(value.numel() for value in theirs.parameters() if value.grad is not None)
        assert count(variables["params"]) == used
        row = {"architecture": arch, "encoder": encoder.removeprefix("tu-tf_"), "outputs": "logits"}
        said = ", ".join(f"{name}={value}" for name, value in arguments.items())
        record(**row, peer=f"smp {said}".strip(), error=error, ours=used, theirs=used)

    return check


@pytest.mark.parametrize("encoder", ["resnet34", "tu-tf_efficientnet_lite0"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_with_smps_defaults(check, arch, encoder):
    check(arch, encoder)


@pytest.mark.parametrize("arch, encoder, arguments", VARIATIONS)
def test_variations(check, arch, encoder, arguments):
    check(arch, encoder, **arguments)


def test_any_size_and_number_of_channels(check):
    pictures = np.random.default_rng(1).normal(size=(1, 45, 67, 4)).astype(np.float32)
    check("unet", "resnet18", pictures=pictures, in_channels=4)


def test_what_cannot_be_converted_is_said_before_reading(peers):
    theirs = peers.smp.create_model("unet", "resnet18", encoder_weights=None, classes=2)
    state_dict = theirs.state_dict()
    for arch, arguments, said in (
        ("unnet", {}, "Did you mean 'unet'"),
        ("fpn", {"decoder_merge_policy": "cat"}, "Unknown option 'decoder_merge_policy'"),
        ("unet", {"decoder_use_norm": "layernorm"}, "has no counterpart"),
        ("unet", {"decoder_chanels": (1,)}, "Did you mean 'decoder_channels'"),
    ):
        with pytest.raises(UserError, match=said):
            from_smp(arch, "resnet18", state_dict, num_classes=2, **arguments)
    with pytest.raises(UserError, match=r"2 of another shape: segmentation_head\.0\."):
        from_smp("unet", "resnet18", state_dict, num_classes=3)
    state_dict["decoder.blocks.9.weight"] = peers.torch.zeros(1)
    with pytest.raises(UserError, match=r"1 not known: decoder\.blocks\.9\.weight"):
        from_smp("unet", "resnet18", state_dict, num_classes=2)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_torchvisions_deeplabv3(peers, randomise, to_torch, forward, assert_close, count, record, auxiliary):
    peers.torch.manual_seed(0)
    theirs = peers.torchvision.models.segmentation.deeplabv3_resnet50(
        num_classes=5, aux_loss=auxiliary, weights_backbone=None
    )
    randomise(theirs).eval()
    model, variables = from_torchvision("deeplabv3_resnet50", theirs.state_dict())
    pictures = np.random.default_rng(2).normal(size=(1, 43, 66, 3)).astype(np.float32)
    ours = forward(model, variables, pictures)
    with peers.torch.no_grad():
        expected = theirs(to_torch(pictures))
    errors = [assert_close(ours["logits"], expected["out"], what="logits")]
    if auxiliary:
        errors.append(assert_close(ours["auxiliary"], expected["aux"], what="auxiliary"))
    sizes = count(variables["params"]), count(theirs)
    assert sizes[0] == sizes[1]
    row = {"architecture": "deeplabv3", "encoder": "resnet50", "peer": "torchvision"}
    outputs = "logits, auxiliary" if auxiliary else "logits"
    record(**row, outputs=outputs, error=max(errors), ours=sizes[0], theirs=sizes[1])
