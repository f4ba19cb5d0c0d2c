"""Models of segmentation_models_pytorch as people have them: arguments, wrappings, channels. Parity has the numbers."""

import json
import warnings

import chex
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.models import create_model
from jaxseg.pretrained import from_smp, import_weights, load_bundle, load_smp, save_bundle
from jaxseg.pretrained.convert import LEAVES, input_channels, rename, variables_template
from jaxseg.pretrained.encoder import read_encoder
from jaxseg.pretrained.names import SMP_MODELS, resnet
from jaxseg.pretrained.names.recipe import SEQUENTIAL
from jaxseg.pretrained.smp import HEAD, read_smp, smp_activation
from jaxseg.trained import load

ARGUMENTS = {"encoder_depth": 2, "decoder_channels": (8, 4)}
CONFIG = {"_model_class": "Unet", "encoder_name": "resnet18", "classes": 2, "in_channels": 3, **ARGUMENTS}


def smp_state_dict(in_channels=3, num_classes=2):
    """What smp's Unet on ResNet-18, two levels deep, holds: every array full of random numbers."""
    recipe = SMP_MODELS["unet"](**ARGUMENTS)
    model = create_model("unet", "resnet18", num_classes=num_classes, **recipe.options)
    renames = (*SEQUENTIAL, HEAD, *recipe.renames)
    random, arrays = np.random.default_rng(0), {}
    for (collection, *path, leaf), shaped in flatten_dict(variables_template(model, in_channels)).items():
        inside = path[0] == "encoder"
        name = f"encoder.{resnet.key(tuple(path[1:]))}" if inside else rename(tuple(path), renames)
        shape = shaped.shape if len(shaped.shape) < 4 else tuple(shaped.shape[axis] for axis in (3, 2, 0, 1))
        arrays[f"{name}.{LEAVES[collection, leaf]}"] = random.normal(size=shape).astype(np.float32)
    return arrays


@pytest.fixture(scope="module")
def plain():
    return smp_state_dict()


@pytest.fixture(scope="module")
def expected(plain):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # there is nothing to say
        return from_smp("unet", "resnet18", plain, 2, **ARGUMENTS)


def same(found, expected):
    assert found[0] == expected[0]
    chex.assert_trees_all_equal(found[1], expected[1])


@pytest.mark.parametrize(
    "prefix, said",
    [
        ("model.", r"'model\.' \(Lightning\)"),
        ("module.", "DataParallel"),
        ("_orig_mod.", r"torch\.compile"),
        ("model.module._orig_mod.", r"'model\.module\.'"),
        ("segmentor.net.", r"'segmentor\.net\.'"),
    ],
)
def test_prefixes_are_left_out_and_named(plain, expected, prefix, said):
    checkpoint = {
        "epoch": 7,
        "pytorch-lightning_version": "2.5",
        "state_dict": {**{prefix + key: value for key, value in plain.items()}},
        "optimizer_states": [{"state": {}, "param_groups": []}],
    }
    with pytest.warns(UserWarning, match=said):
        same(from_smp("unet", "resnet18", checkpoint, 2, **ARGUMENTS), expected)


def test_what_a_lightning_module_holds_beside_the_model_is_left_out_and_counted(plain, expected):
    buffers = {"mean": np.zeros((1, 3, 1, 1)), "std": np.ones((1, 3, 1, 1)), "loss_fn.weight": np.ones(2)}
    imported = read_smp("unet", "resnet18", {**{f"model.{k}": v for k, v in plain.items()}, **buffers}, **ARGUMENTS)
    same(imported[:2], expected)
    assert "3 entries without it are not read: mean, std, loss_fn.weight" in imported.notes[0]


def test_strictness_stays_behind_a_prefix(plain):
    wrapped = {f"model.{key}": value for key, value in plain.items()} | {"model.decoder.extra": np.ones(2)}
    del wrapped["model.decoder.blocks.0.conv1.0.weight"]
    with pytest.raises(UserError, match="1 missing: decoder.blocks.0.conv1.0.weight; 1 not known: decoder.extra"):
        read_smp("unet", "resnet18", wrapped, 2, **ARGUMENTS)


@pytest.mark.parametrize("arch", ["Unet", "UNET", "unet"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"decoder_use_batchnorm": True},
        {"psp_use_batchnorm": True},
        {"decoder_use_batchnorm": None, "decoder_use_norm": "BatchNorm"},
        {"decoder_use_norm": {"type": "batchnorm", "eps": 1e-5}},
        {"decoder_use_norm": True, "encoder_weights": "imagenet", "aux_params": None, "upscale_mode": None},
    ],
)
def test_spellings_of_one_model(plain, expected, arch, arguments):
    same(from_smp(arch, "resnet18", plain, **ARGUMENTS, **arguments), expected)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"decoder_use_batchnorm": False}, "decoder_use_norm=False has no counterpart here: .* always normalize"),
        ({"decoder_use_batchnorm": "inplace"}, r"InPlaceABN scales by \|weight\|"),
        ({"decoder_use_norm": {"type": "batchnorm", "eps": 1e-3}}, "PyTorch's defaults"),
        ({"decoder_use_norm": {"type": "layernorm"}}, "has no counterpart"),
        ({"decoder_use_norm": "batchnorm", "decoder_use_batchnorm": False}, "decoder_use_norm=False"),
        ({"activation": "tanh"}, "activation='tanh' has no counterpart"),
        ({"aux_params": {"classes": 2}}, "makes a classifier of images"),
        ({"upsampling": 2}, "Unknown option 'upsampling' of smp's 'unet'"),
    ],
)
def test_what_has_no_counterpart(plain, arguments, said):
    with pytest.raises(UserError, match=said):
        read_smp("unet", "resnet18", plain, **ARGUMENTS, **arguments)


@pytest.mark.parametrize(
    "arch, arguments, natural",
    [
        ("FPN", {"encoder_depth": 4, "upsampling": 4}, 2),
        ("fpn", {"encoder_depth": 3, "upsampling": 2}, 1),
        ("PSPNet", {"encoder_depth": 4}, 16),
        ("pspnet", {"upsampling": 16}, 8),
        ("deeplabv3", {"upsampling": 4}, 8),
        ("DeepLabV3Plus", {"upsampling": 8}, 4),
        ("pan", {"upsampling": 2}, 4),
        ("UPerNet", {"upsampling": 1}, 4),
        ("Segformer", {"upsampling": 8}, 4),
    ],
)
def test_logits_of_another_size_are_refused_and_the_factor_named(arch, arguments, natural):
    with pytest.raises(UserError, match=rf"give upsampling={natural} to take them"):
        read_smp(arch, "resnet18", {}, 2, **arguments)
    SMP_MODELS[arch.lower()](**arguments | {"upsampling": natural})


@pytest.mark.parametrize(
    "given, num_classes, kind",
    [
        (None, 1, "sigmoid"),
        ("identity", 3, "softmax"),
        ("sigmoid", 3, "sigmoid"),
        ("sigmoid", 1, "sigmoid"),
        ("softmax2d", 3, "softmax"),
        ("logsoftmax", 3, "softmax"),
    ],
)
def test_the_activation_is_kept(given, num_classes, kind):
    assert smp_activation(given, num_classes) == kind


def test_a_softmax_of_one_class_is_an_error(plain):
    with pytest.raises(UserError, match="of a single class is 1 at every pixel"):
        smp_activation("softmax", 1)
    assert read_smp("unet", "resnet18", plain, activation="sigmoid", **ARGUMENTS).activation == "sigmoid"


def test_channels_are_hinted_at_by_the_first_convolution():
    six = smp_state_dict(in_channels=6)
    with pytest.raises(UserError, match=r"images of 6 channels: give in_channels=6\."):
        from_smp("unet", "resnet18", six, 2, **ARGUMENTS)
    imported = read_smp("unet", "resnet18", six, in_channels=6, **ARGUMENTS)
    assert input_channels(*imported[:2]) == 6


@pytest.mark.parametrize("channels", [1, 4])
def test_a_bundle_of_other_channels_can_be_opened(tmp_path, channels):
    save_file(smp_state_dict(channels, num_classes=1), tmp_path / "a.safetensors")
    options = {"arch": "Unet", "encoder": "resnet18", "in_channels": channels, **ARGUMENTS}
    imported = import_weights("smp", tmp_path / "a.safetensors", **options)
    assert (imported.activation, imported.in_channels) == ("sigmoid", channels)
    save_bundle(tmp_path / "b", imported.module, imported.variables)
    config = json.loads((tmp_path / "b/config.json").read_text())
    assert config["in_channels"] == channels
    reds, greens, blues = imported.module.encoder.pixel_mean
    expected = {1: [(reds + greens + blues) / 3], 4: [reds, greens, blues, reds]}[channels]
    assert config["preprocessing"]["mean"] == expected
    same((load_bundle(tmp_path / "b").module, load_bundle(tmp_path / "b").variables), imported[:2])


def test_a_folder_says_its_activation(tmp_path, plain, expected):
    save_file(plain, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"activation": "sigmoid"}))
    imported = import_weights("smp", tmp_path)
    assert imported.activation == "sigmoid"
    same(load_smp(tmp_path), expected)


def test_an_encoder_out_of_a_model(plain, expected):
    imported = read_encoder("smp", "resnet18", plain, depth=2)
    chex.assert_trees_all_equal(imported.variables["params"], expected[1]["params"]["encoder"])
    assert "'encoder.'" in imported.notes[0]


def test_the_command_says_what_it_left_out_and_keeps_the_activation(tmp_path, capsys, plain, expected):
    save_file({f"model.{key}": value for key, value in plain.items()}, tmp_path / "a.safetensors")
    options = ["encoder_depth=2", "decoder_channels=(8, 4)", "activation=sigmoid"]
    flags = [word for option in options for word in ("--option", option)]
    given = [str(tmp_path / "a.safetensors"), "--arch", "Unet", "--encoder", "resnet18", *flags]
    assert call("convert", "smp", *given, "--out", str(tmp_path / "b")) == 0
    assert capsys.readouterr().err == "The names begin with 'model.' (Lightning), which is left out.\n"
    trained = load(tmp_path / "b")
    assert trained.activation == "sigmoid"
    same((trained.model, trained.variables), expected)


def test_the_golden_image_may_be_left_out(tmp_path, plain):
    save_file(plain, tmp_path / "a.safetensors")
    given = [str(tmp_path / "a.safetensors"), "--encoder", "resnet18", "--arch", "Unet", "--no-golden"]
    options = ["--option", "encoder_depth=2", "--option", "decoder_channels=8,4"]
    assert call("convert", "smp", *given, *options, "--out", str(tmp_path / "b")) == 0
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["README.md", "config.json", "model.safetensors"]
