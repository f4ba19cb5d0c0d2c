"""Whole models against segmentation_models_pytorch: `from_smp`, the same logits, the same running statistics."""

import inspect
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxseg.checks import UserError
from jaxseg.pretrained import from_smp, load_smp
from jaxseg.pretrained.names import SMP_MODELS as ARCHITECTURES

# Of smp's encoders; every architecture is compared on each, unless smp refuses the pair.
ENCODERS = (
    "resnet34",
    "vgg16_bn",
    "mobilenet_v2",
    "efficientnet-b0",
    "mit_b0",
)
# smp dilates no VGG, and gives Unet++ and LinkNet no MiT.
REFUSED = {
    ("deeplabv3", "vgg16_bn"),
    ("deeplabv3plus", "vgg16_bn"),
    ("unetplusplus", "mit_b0"),
    ("linknet", "mit_b0"),
}
# beyond smp's defaults
VARIATIONS = [
    ("unet", "resnet18", {"decoder_attention_type": "scse", "decoder_channels": (64, 48, 32, 32, 16)}),
    ("unet", "tu-resnet18", {"encoder_depth": 3, "decoder_channels": (32, 16, 8), "in_channels": 1}),
    ("unet", "vgg11", {"decoder_channels": (16,) * 5, "decoder_interpolation": "bilinear"}),
    ("unet", "mit_b0", {"decoder_attention_type": "scse", "decoder_channels": (16,) * 5}),  # there is no c1
    ("unetplusplus", "resnet18", {"decoder_attention_type": "scse", "decoder_channels": (16,) * 5}),
    (
        "unetplusplus",
        "resnet18",
        {"decoder_interpolation": "bilinear", "encoder_depth": 4, "in_channels": 4}
        | {"decoder_channels": (16, 8, 8, 4)},
    ),
    ("unetplusplus", "resnet18", {"encoder_depth": 3, "decoder_channels": (16, 8, 4)}),
    ("linknet", "resnet18", {"encoder_depth": 3, "in_channels": 1}),
    ("linknet", "tu-resnet18", {"encoder_depth": 4}),
    (
        "manet",
        "resnet18",
        {"decoder_interpolation": "bilinear", "decoder_pab_channels": 8}
        | {"encoder_depth": 3, "decoder_channels": (16, 8, 8)},
    ),
    ("manet", "resnet18", {"encoder_depth": 4, "decoder_channels": (16, 8, 8, 8), "in_channels": 4}),
    ("pan", "resnet18", {"decoder_interpolation": "nearest", "encoder_depth": 4, "in_channels": 1}),
    ("pan", "resnet18", {"encoder_depth": 3, "decoder_channels": 16}),
    ("fpn", "resnet18", {"decoder_segmentation_channels": 64, "decoder_interpolation": "bilinear"}),
    ("fpn", "resnet18", {"decoder_merge_policy": "cat", "encoder_depth": 4, "upsampling": 2, "in_channels": 4}),
    ("fpn", "resnet18", {"encoder_depth": 3, "decoder_pyramid_channels": 32, "upsampling": 1}),
    ("pspnet", "resnet18", {"encoder_depth": 5, "psp_out_channels": 64, "upsampling": 32}),
    ("pspnet", "resnet18", {"encoder_depth": 4, "upsampling": 16, "in_channels": 1}),
    ("deeplabv3", "tu-resnet18", {"encoder_output_stride": 16, "decoder_aspp_separable": True}),
    ("deeplabv3", "resnet18", {"encoder_depth": 4, "decoder_channels": 16, "in_channels": 4}),
    ("deeplabv3plus", "resnet18", {"decoder_atrous_rates": (2, 4, 6), "decoder_aspp_separable": False}),
    ("deeplabv3plus", "resnet18", {"encoder_output_stride": 8, "decoder_channels": 32, "in_channels": 1}),
    ("deeplabv3plus", "resnet18", {"encoder_depth": 3, "decoder_channels": 32}),
    ("segformer", "resnet18", {"decoder_segmentation_channels": 32, "encoder_depth": 4, "in_channels": 4}),
    ("upernet", "resnet18", {"decoder_channels": 16, "encoder_depth": 4, "in_channels": 1}),
]


@pytest.fixture
def make(peers, randomize):
    """smp's model with random statistics and no dropout, and its arguments; None if smp refuses the pair.

    What cannot be dilated to the architecture's own output stride is taken without dilation, a level less deep.
    """

    def make(arch, encoder, arguments):
        attempts = [arguments]
        if "encoder_output_stride" in inspect.signature(ARCHITECTURES[arch]).parameters:
            attempts.append({"encoder_output_stride": 32, "encoder_depth": 4, **arguments})
        peers.torch.manual_seed(0)
        for attempt in attempts:
            try:
                model = peers.smp.create_model(arch, encoder, encoder_weights=None, classes=5, **attempt)
            except ValueError:
                continue
            for part in model.modules():
                part._drop_connect_rate = 0.0  # of smp's EfficientNet
                for name, child in part.named_children():
                    if "Drop" in type(child).__name__:
                        setattr(part, name, peers.torch.nn.Identity())
            return randomize(model), attempt
        return None

    return make


@pytest.fixture
def check(peers, make, to_torch, assert_close, count, record):
    """Converts smp's model; compares the logits, and the running statistics after a training pass if `train`."""

    def check(arch, encoder, *, images=None, train=True, **arguments):
        made = make(arch, encoder, arguments)
        if made is None:
            return None
        theirs, arguments = made
        if images is None:  # an odd batch, not square; smp's PAN needs larger ones
            size = (128, 160) if arch == "pan" else (64, 96)
            shape = (3, *size, arguments.get("in_channels", 3))
            images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        before = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
        model, variables = from_smp(arch, encoder, before, num_classes=5, **arguments)
        ours, statistics = run(model, variables, images, train)
        expected = theirs.eval()(to_torch(images))
        expected.sum().backward()
        error = assert_close(ours, expected)
        # smp also holds parameters that nothing uses, e.g. stages of the encoder beyond encoder_depth
        used = sum(value.numel() for value in theirs.parameters() if value.grad is not None)
        assert count(variables["params"]) == used
        if train:
            with peers.torch.no_grad():
                theirs.train()(to_torch(images))
            compare_statistics(variables["batch_stats"], statistics, before, theirs.state_dict())
        outputs = "logits, running statistics" if train else "logits"
        said = ", ".join(f"{name}={value}" for name, value in arguments.items())
        row = {"architecture": arch, "encoder": encoder.removeprefix("tu-tf_"), "outputs": outputs}
        record(**row, peer=f"smp {said}".strip(), error=error, ours=used, theirs=used)
        return model

    return check


def without_dropout(model):
    """The model with every `dropout` of its parts at 0."""
    parts = {name: getattr(model, name, None) for name in ("decoder", "head", "auxiliary")}
    changed = {name: part.clone(dropout=0.0) for name, part in parts.items() if hasattr(part, "dropout")}
    return model.clone(**changed, **({"dropout": 0.0} if hasattr(model, "dropout") else {}))


def run(model, variables, images, train):
    """The logits in evaluation and, if `train`, the statistics after a pass in training, without dropout."""
    still = without_dropout(model)

    @jax.jit
    def both(variables, images):
        logits = model.apply(variables, images, train=False)["logits"]
        if not train:
            return logits, None
        _, updates = still.apply(variables, images, train=True, mutable=["batch_stats"])
        return logits, updates["batch_stats"]

    return both(jax.tree.map(jnp.asarray, variables), images)


def compare_statistics(old, new, theirs_before, theirs_after):
    """Each of our statistics is found in smp's model by its random value before the pass."""
    names = {value.tobytes(): key for key, value in theirs_before.items() if ".running_" in key}
    new = flatten_dict(new)
    for path, value in flatten_dict(old).items():
        name = names[value.tobytes()]
        expected = theirs_after[name].numpy()
        assert np.abs(expected - value).max() > 0
        limit = 1e-4 * max(np.abs(expected).max(), 0.1)
        np.testing.assert_allclose(new[path], expected, rtol=1e-4, atol=limit, err_msg=name)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_with_smps_defaults(check, arch, encoder, pytestconfig):
    # The pass in training, which takes as long again to compile, on one encoder; on all when the table is written.
    train = encoder == ENCODERS[0] or pytestconfig.getoption("--parity-table") is not None
    model = check(arch, encoder, train=train)
    if model is None:  # the only pairs that smp refuses
        assert (arch, encoder) in REFUSED
    else:
        assert (arch, encoder) not in REFUSED


@pytest.mark.parametrize("arch, encoder, arguments", VARIATIONS)
def test_variations(check, arch, encoder, arguments):
    assert check(arch, encoder, **arguments) is not None


def test_any_size_and_number_of_channels(check):
    images = np.random.default_rng(1).normal(size=(1, 45, 67, 4)).astype(np.float32)
    assert check("unet", "resnet18", images=images, train=False, in_channels=4) is not None


@pytest.mark.parametrize(
    "arch, arguments",
    [
        ("unetplusplus", {"encoder_depth": 3, "decoder_channels": (8, 8, 4)}),
        ("deeplabv3plus", {"decoder_atrous_rates": [2, 4, 6], "decoder_channels": 16}),
    ],
)
def test_a_folder_of_smps_own(make, tmp_path, arch, arguments):
    theirs, _ = make(arch, "resnet18", arguments)
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"encoder_weights": "imagenet"}))  # nothing is fetched
    model, variables = load_smp(tmp_path)
    expected_model, expected = from_smp(arch, "resnet18", theirs.state_dict(), num_classes=5, **arguments)
    assert model == expected_model
    chex.assert_trees_all_equal(variables, expected)
    del config["_model_class"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="has no entry '_model_class'"):
        load_smp(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="There is no file .*safetensors"):
        load_smp(tmp_path)


def test_arguments_by_their_former_names(make):
    theirs, _ = make("pan", "resnet18", {"encoder_depth": 3})
    arguments = {"encoder_depth": 3, "upscale_mode": "nearest", "decoder_use_batchnorm": True}
    model, _ = from_smp("pan", "resnet18", theirs.state_dict(), num_classes=5, **arguments)
    assert model.decoder.method == "nearest"


def test_what_cannot_be_converted_is_said_before_reading(peers):
    theirs = peers.smp.create_model("unet", "resnet18", encoder_weights=None, classes=2)
    state_dict = theirs.state_dict()
    for arch, arguments, said in (
        ("unnet", {}, "Did you mean 'unet'"),
        ("fpn", {"decoder_merge_polcy": "cat"}, "Did you mean 'decoder_merge_policy'"),
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


@pytest.mark.parametrize(
    "arch, arguments",
    [
        *((arch, {}) for arch in ("fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet", "segformer")),
        *(("fpn", {"encoder_depth": depth, "upsampling": factor}) for depth in (3, 4) for factor in (1, 2, 4)),
        *(("pspnet", {"encoder_depth": depth, "upsampling": 16}) for depth in (3, 4, 5)),
        *(("deeplabv3", {"encoder_depth": depth, "encoder_output_stride": 16}) for depth in (3, 4, 5)),
        *(("deeplabv3", {"encoder_output_stride": stride, "upsampling": 8}) for stride in (8, 16)),
        *((arch, {"upsampling": 8}) for arch in ("deeplabv3plus", "pan", "upernet", "segformer")),
    ],
)
def test_upsampling_is_refused_exactly_where_smps_logits_have_another_size(peers, arch, arguments):
    with peers.torch.device("meta"):
        theirs = peers.smp.create_model(arch, "resnet18", encoder_weights=None, classes=2, **arguments).eval()
        images = peers.torch.zeros(1, 3, 128, 160)
    if theirs(images).shape[2:] == images.shape[2:]:
        ARCHITECTURES[arch](**arguments)
    else:
        with pytest.raises(UserError, match="upsampling="):
            ARCHITECTURES[arch](**arguments)
