"""VGG, DenseNet, ResNeXt and Wide ResNet against torchvision, timm and smp."""

import re
from functools import partial

import numpy as np
import pytest

from jaxseg.pretrained import encoder_from_smp, encoder_from_timm, encoder_from_torchvision, from_smp

NAMES = [
    *(f"vgg{n}{bn}" for n in (11, 13, 16, 19) for bn in ("", "_bn")),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"),
    *(f"densenet{n}" for n in (121, 161, 169, 201)),
]


def vgg_levels(module, x):
    """The features before pooling 2 to 5, and after it."""
    levels = []
    for layer in module.features:
        if type(layer).__name__ == "MaxPool2d":
            levels.append(x.clone())  # the next ReLU works in place
        x = layer(x)
    return [*levels[1:], x]


def densenet_levels(module, x):
    """The paper's: the stem, the blocks after the transition's normalization and ReLU, the features."""
    f = module.features
    x = f.relu0(f.norm0(f.conv0(x)))
    levels, x = [x], f.pool0(x)
    for block, transition in (
        (f.denseblock1, f.transition1),
        (f.denseblock2, f.transition2),
        (f.denseblock3, f.transition3),
    ):
        levels.append(transition.relu(transition.norm(block(x))))
        x = transition.pool(transition.conv(levels[-1]))
    return [*levels, f.norm5(f.denseblock4(x))]


def round_up(peers, module):
    """Lets PyTorch's poolings of 2 pixels round odd sizes up, as ours and Caffe's do."""
    for layer in module.modules():
        if isinstance(layer, peers.torch.nn.MaxPool2d | peers.torch.nn.AvgPool2d) and layer.kernel_size == 2:
            layer.ceil_mode = True
    return module


@pytest.mark.parametrize(
    "name, levels", [("vgg11", vgg_levels), ("vgg13_bn", vgg_levels), ("densenet121", densenet_levels)]
)
def test_odd_sizes_are_torchvisions_rounded_up(peers, randomize, check_levels, count, images, name, levels):
    module = randomize(round_up(peers, getattr(peers.torchvision.models, name)(num_classes=2)))
    options = {"peer": "torchvision, pooling rounded up", "head": count(module.classifier)}
    check_levels(
        name, module, encoder_from_torchvision, partial(levels, module), samples=images[:2, :45, :67], **options
    )


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg16", "densenet121", "resnext50_32x4d"])
def test_levels_are_smps(peers, randomize, check_levels, images, name):
    module = randomize(peers.smp.encoders.get_encoder(name, weights=None))
    check_levels(name, module, encoder_from_smp, lambda x: module(x)[1:], peer="smp", samples=images[:1])


@pytest.mark.parametrize("output_stride", [16, 8])
def test_dilated_resnext_is_smps(peers, randomize, check_levels, images, output_stride):
    module = randomize(peers.smp.encoders.get_encoder("resnext50_32x4d", weights=None, output_stride=output_stride))
    options = {"peer": "smp", "output_stride": output_stride, "samples": images[:1, :32, :64]}
    check_levels("resnext50_32x4d", module, encoder_from_smp, lambda x: module(x)[1:], **options)


@pytest.mark.parametrize("name", ["vgg11_bn", "densenet121"])
def test_levels_are_timms(peers, randomize, check_levels, images, name):
    """timm's features: with block 1 for VGG, and for DenseNet before the transition's normalization."""
    module = randomize(peers.timm.create_model(name, features_only=True))
    options = {"raw_levels": True} if name == "densenet121" else {}
    check_levels(
        name, module, encoder_from_timm, lambda x: module(x)[-5:], peer="timm", samples=images[:1, :32], **options
    )


# ResNeXt's c5 in training is 1e-4 off in PyTorch, too, when its float32 is compared with its float64.
@pytest.mark.parametrize("name, limit", [("vgg11_bn", 1e-4), ("densenet121", 1e-4), ("resnext50_32x4d", 5e-4)])
def test_training_updates_the_statistics_alike(peers, randomize, check_statistics, images, name, limit):
    module = randomize(peers.smp.encoders.get_encoder(name, weights=None))
    check_statistics(name, module, encoder_from_smp, lambda x: module(x)[-1], images[:2], limit)


@pytest.mark.parametrize("name", NAMES)
def test_every_size_has_torchvisions_parameters(peers, count, name):
    with peers.torch.device("meta"):
        module = getattr(peers.torchvision.models, name)()
    arrays = {key: np.broadcast_to(np.float32(0), value.shape) for key, value in module.state_dict().items()}
    head = module.fc if hasattr(module, "fc") else module.classifier
    assert count(encoder_from_torchvision(name, arrays)["params"]) == count(module) - count(head)


def test_resnext101_32x4d_has_smps_parameters(peers, count):
    with peers.torch.device("meta"):
        module = peers.smp.encoders.get_encoder("resnext101_32x4d", weights=None)
    arrays = {key: np.broadcast_to(np.float32(0), value.shape) for key, value in module.state_dict().items()}
    assert count(encoder_from_smp("resnext101_32x4d", arrays)["params"]) == count(module)


def test_densenets_published_files_spell_their_names_otherwise(peers, count):
    """As torchvision's own loader says: "norm.1" for what is now "norm1"."""
    with peers.torch.device("meta"):
        module = peers.torchvision.models.densenet121()
    arrays = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): np.broadcast_to(np.float32(0), value.shape)
        for key, value in module.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in arrays
    assert count(encoder_from_torchvision("densenet121", arrays)["params"]) == count(module.features)


@pytest.mark.parametrize(
    "encoder, arguments",
    [
        ("vgg16_bn", {}),
        ("densenet121", {"encoder_depth": 4, "decoder_channels": (32, 16, 8, 8)}),
        ("tu-densenet121", {"encoder_depth": 3, "decoder_channels": (32, 16, 8)}),
        ("resnext50_32x4d", {"in_channels": 4}),
    ],
)
def test_unets_on_them_are_smps(peers, randomize, images, to_torch, forward, assert_close, encoder, arguments):
    theirs = peers.smp.create_model("unet", encoder, encoder_weights=None, classes=5, **arguments)
    randomize(theirs).eval()
    model, variables = from_smp("unet", encoder, theirs.state_dict(), num_classes=5, **arguments)
    samples = np.concatenate([images, images[..., ::-1]], -1)[:1, :32, :64, : arguments.get("in_channels", 3)]
    with peers.torch.no_grad():
        expected = theirs(to_torch(samples))
    assert_close(forward(model, variables, samples)["logits"], expected)
