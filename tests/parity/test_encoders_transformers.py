"""ConvNeXt and Mix Transformer against torchvision, timm and smp: every level; the large ones by names and shapes."""

from functools import partial

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxseg.encoders import create_encoder
from jaxseg.pretrained import encoder_from_smp, encoder_from_timm, encoder_from_torchvision
from jaxseg.pretrained.convert import to_linen, torch_name, variables_template
from jaxseg.pretrained.names import find_source

SMALL = {"widths": (8, 16, 24, 32), "blocks": (1, 2, 2, 1)}  # a ConvNeXt


@pytest.mark.parametrize("output_stride, size", [(32, (61, 93)), (16, (64, 96)), (8, (64, 96))])
def test_mit_b0_is_smps(peers, randomize, check_levels, images, output_stride, size):
    module = randomize(peers.smp.encoders.get_encoder("mit_b0", weights=None, output_stride=output_stride))
    check_levels(
        "mit_b0",
        module,
        encoder_from_smp,
        lambda x: module(x)[2:],
        peer="smp",
        samples=images[:, : size[0], : size[1]],
        output_stride=output_stride,
    )


def test_convnext_tiny_is_torchvisions(peers, randomize, check_levels, count):
    module = randomize(peers.torchvision.models.convnext_tiny())

    def features(x):
        levels = [x := stage(x) for stage in module.features]
        return levels[1::2]

    head = count(module.classifier)
    check_levels("convnext_tiny", module, encoder_from_torchvision, features, peer="torchvision", head=head)


def small_convnext(peers, **options):
    return peers.timm.create_model("convnext_tiny", dims=SMALL["widths"], depths=SMALL["blocks"], **options)


@pytest.mark.parametrize("output_stride, channels", [(32, 3), (16, 3), (8, 5)])
def test_small_convnexts_are_timms(peers, randomize, images, to_torch, forward, assert_close, output_stride, channels):
    dilation = {} if output_stride == 32 else {"output_stride": output_stride}
    module = small_convnext(peers, features_only=True, in_chans=channels, **dilation)
    randomize(module).eval()
    samples = images[..., np.arange(channels) % 3]
    variables = encoder_from_timm("convnext_tiny", module.state_dict(), in_channels=channels, **SMALL)
    ours = forward(create_encoder("convnext_tiny", output_stride=output_stride, **SMALL), variables, samples)
    for key, theirs in zip(ours, module(to_torch(samples)), strict=True):
        assert_close(ours[key], theirs, what=key)


def test_names_of_timms_classifier_and_of_its_features_fit(peers):
    classifier = small_convnext(peers).state_dict()
    features = {
        key: classifier[key.replace("_", ".", 1)] for key in small_convnext(peers, features_only=True).state_dict()
    }
    assert "stages_1.blocks.1.mlp.fc1.weight" in features
    for convert, state_dict in (
        (encoder_from_timm, classifier),
        (encoder_from_timm, features),
        (encoder_from_smp, {f"model.{key}": value for key, value in features.items()}),
    ):
        kernel = convert("convnext_tiny", state_dict, **SMALL)["params"]["stage2_block1"]["expand"]["kernel"]
        np.testing.assert_array_equal(kernel[0, 0].T, classifier["stages.1.blocks.1.mlp.fc1.weight"])


PEERS = {
    "smp": lambda peers, name: peers.smp.encoders.get_encoder(name, weights=None),
    "timm": lambda peers, name: peers.timm.create_model(name),
    "torchvision": lambda peers, name: getattr(peers.torchvision.models, name)(),
}
LARGE = {
    **{f"mit_b{i}": ("smp",) for i in range(1, 6)},
    **{f"convnext_{size}": ("timm", "torchvision") for size in ("small", "base", "large")},
}


@pytest.mark.parametrize("name", LARGE)
def test_large_ones_have_the_same_names_and_shapes(peers, monkeypatch, name):
    torch = peers.torch
    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))  # of the drop paths, as numbers
    encoder = create_encoder(name)
    leaves = flatten_dict(variables_template(encoder))
    for source in LARGE[name]:
        with torch.device("meta"):
            module = PEERS[source](peers, name)
        names = find_source(encoder, name, source)
        ours = {torch_name(path, names.key): leaf.shape for path, leaf in leaves.items()}
        theirs = {
            key: to_linen(np.broadcast_to(np.float32(0), value.shape), len(ours.get(key, ()))).shape
            for key, value in module.state_dict().items()
            if not key.startswith(names.head)
        }
        assert ours == theirs
