"""MobileNetV2, MobileNetV3 and EfficientNet against torchvision, timm and smp."""

import numpy as np
import pytest

from jaxseg.pretrained import (
    encoder_from_smp,
    encoder_from_timm,
    encoder_from_torchvision,
    smp_encoder,
    timm_encoder,
)

EARLY = ("c1", "c2", "c3", "c4")
BEYOND = ("_conv_head", "_bn1", "conv_head", "bn2")  # of EfficientNet's head, which no level goes through


def features_at(module, indices):
    """A function to the results of the entries `indices` of torchvision's `features`."""

    def levels(x):
        found = []
        for i, layer in enumerate(module.features[: indices[-1] + 1]):
            x = layer(x)
            if i in indices:
                found.append(x)
        return found

    return levels


def zeros(module):
    """The state dict of a module on the meta device, which computes nothing."""
    return {key: np.broadcast_to(np.float32(0), value.shape) for key, value in module.state_dict().items()}


@pytest.mark.parametrize(
    "name, output_stride",
    [
        ("mobilenet_v2", 32),
        ("mobilenet_v2", 8),
        ("efficientnet-b0", 32),
        ("efficientnet-b0", 8),  # whose c4 ends, and further dilation begins, within a stage
        ("efficientnet-b1", 16),  # trained at 240 pixels: pads a deep level as if its size were odd
        ("timm-efficientnet-b0", 16),
    ],
)
def test_levels_are_smps_at_odd_sizes(peers, randomize, check_levels, count, images, name, output_stride):
    origin = smp_encoder(name)
    module = randomize(peers.smp.encoders.get_encoder(name, weights=None, output_stride=output_stride))
    convert = {"smp": encoder_from_smp, "timm": encoder_from_timm}[origin.library]
    head = sum(count(part) for part_name, part in module.named_children() if part_name in BEYOND)
    options = {"peer": f"smp's {name}", "head": head, "output_stride": output_stride, **origin.options}
    samples = images[:1, :61, :93]
    check_levels(origin.encoder, module, convert, lambda x: module(x)[1:], samples=samples, **options)


@pytest.mark.parametrize(
    "name, output_stride",
    [
        ("mobilenetv2_100", 16),
        ("tf_mobilenetv3_large_100", 8),
        ("mobilenetv3_small_100", 32),
        ("efficientnet_b0", 32),
        ("tf_efficientnet_b0", 16),
        ("efficientnet_lite0", 32),
    ],
)
def test_levels_are_timms_at_odd_sizes(peers, randomize, check_levels, images, name, output_stride):
    origin = timm_encoder(name)
    module = randomize(peers.timm.create_model(name, features_only=True, output_stride=output_stride))
    options = {"peer": f"timm {name}", "output_stride": output_stride, "samples": images[:1, :61, :93]}
    check_levels(origin.encoder, module, encoder_from_timm, module, **options, **origin.options)


@pytest.mark.parametrize(
    "name, indices, options",
    [
        ("mobilenet_v2", (1, 3, 6, 13, 17), {"last_conv": False}),
        ("mobilenet_v3_large", (1, 3, 6, 12, 15), {"last_conv": False}),
        ("mobilenet_v3_small", (0, 1, 3, 8, 12), {}),
        ("mobilenet_v3_large", (0, 2, 4, 7, 16), {"early_levels": EARLY, "output_stride": 16}),
        ("mobilenet_v3_small", (0, 1, 2, 4, 12), {"early_levels": EARLY, "output_stride": 16}),
        ("efficientnet_b0", (1, 2, 3, 5, 7), {}),
    ],
)
def test_levels_are_torchvisions(peers, randomize, check_levels, count, images, name, indices, options):
    """With and without the last 1x1 convolution, and with the levels and the dilation of its segmentation models."""
    dilated = {"dilated": True} if "output_stride" in options else {}
    module = randomize(getattr(peers.torchvision.models, name)(**dilated))
    beyond = count(module.classifier) + sum(count(layer) for layer in module.features[indices[-1] + 1 :])
    levels = features_at(module, indices)
    options = options | {"peer": "torchvision", "head": beyond, "samples": images[:1, :61, :93]}
    check_levels(name, module, encoder_from_torchvision, levels, **options)


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet-b0", "tu-tf_mobilenetv3_small_100"])
def test_training_updates_the_statistics_alike(peers, randomize, check_statistics, name):
    origin = smp_encoder(name)
    module = randomize(peers.smp.encoders.get_encoder(name, weights=None))
    module._drop_connect_rate = 0.0  # of smp's EfficientNet
    check_statistics(origin.encoder, module, encoder_from_smp, lambda x: module(x)[-1], **origin.options)


def test_torchvisions_mobilenet_v3_keeps_statistics_with_its_own_momentum(peers, randomize, check_statistics):
    module = randomize(peers.torchvision.models.mobilenet_v3_small())
    check_statistics("mobilenet_v3_small", module, encoder_from_torchvision, module.features)


@pytest.mark.parametrize("number", [1, 3, 7])
def test_a_larger_efficientnet_has_smps_parameters(peers, count, number):
    with peers.torch.device("meta"):
        module = peers.smp.encoders.get_encoder(f"efficientnet-b{number}", weights=None)
    beyond = sum(count(part) for name, part in module.named_children() if name in BEYOND)
    assert count(encoder_from_smp(f"efficientnet-b{number}", zeros(module))["params"]) == count(module) - beyond


@pytest.mark.parametrize("name, convert", [("torchvision", encoder_from_torchvision), ("timm", encoder_from_timm)])
def test_a_larger_efficientnet_has_the_others_names(peers, count, name, convert):
    with peers.torch.device("meta"):
        library = {"torchvision": peers.torchvision.models.efficientnet_b2, "timm": peers.timm.models.efficientnet_b2}
        module = library[name]()
    assert (
        count(convert("efficientnet_b2", zeros(module))["params"]) == 9_109_994 - 352 * 1408 - 2 * 1408 - 1409 * 1000
    )  # less the head's


def test_the_last_convolution_of_another_library_is_left_out_or_taken(peers, count):
    """Each library's classifier holds it; and without it, nothing else is missing."""
    name = "mobilenet_v3_small"
    with peers.torch.device("meta"):
        torchvision = getattr(peers.torchvision.models, name)()
        timm = peers.timm.create_model(f"{name.replace('_v3', 'v3')}_100")
    sizes = [
        {count(convert(name, zeros(module), last_conv=last)["params"]) for last in (True, False)}
        for convert, module in ((encoder_from_torchvision, torchvision), (encoder_from_timm, timm))
    ]
    features = torchvision.features
    assert sizes == [{count(features), count(features) - count(features[-1])}] * 2
