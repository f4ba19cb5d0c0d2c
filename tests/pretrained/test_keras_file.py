"""Keras's HDF5 files, of Keras 3 and older, written here in their layout; docs/pretrained.md has Keras itself."""

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxseg.checks import UserError
from jaxseg.cli.program import main
from jaxseg.encoders import create_encoder
from jaxseg.pretrained import encoder_from_keras, load_bundle, load_encoder, read_state_dict
from jaxseg.pretrained.keras_file import read_keras
from jaxseg.pretrained.names import find_source
from tests.pretrained.test_convert import torch_state_dict

h5py = pytest.importorskip("h5py", reason="needs pip install jaxseg[keras]")
TENSORFLOW = {"padding": "tensorflow", "epsilon": 1e-3}
LEAVES = ("weight", "bias", "running_mean", "running_var")
# The layers of MobileNetV2 up to c2, in the order of keras.applications.MobileNetV2's model.layers.
MOBILENET = ("Conv1", "bn_Conv1", "expanded_conv_depthwise", "expanded_conv_depthwise_BN", "expanded_conv_project")
MOBILENET += ("expanded_conv_project_BN",)
MOBILENET += tuple(
    f"block_{i}_{part}{norm}" for i in (1, 2) for part in ("expand", "depthwise", "project") for norm in ("", "_BN")
)


def layers(name, **options):
    """{layer: {leaf: array in Keras's layout}} of an encoder, each array full of random numbers."""
    found = {}
    for key, array in torch_state_dict(name, library="keras", **options).items():
        layer, leaf = key.rsplit(".", 1)
        if array.ndim == 4:
            array = array.transpose((2, 3, 0, 1) if "depthwise" in layer or "dwconv" in layer else (2, 3, 1, 0))
        found.setdefault(layer, {})[leaf] = np.abs(array) if leaf == "running_var" else array
    return found


def write_numbered(path, order, arrays):
    """A file of Keras 3: the layers by their classes, numbered."""
    counts = {}
    with h5py.File(path, "w") as file:
        for layer in order:
            leaves = arrays[layer]
            conv = "depthwise_conv2d" if "depthwise" in layer or "dwconv" in layer else "conv2d"
            kind = "batch_normalization" if "running_var" in leaves else conv if leaves["weight"].ndim == 4 else "dense"
            number = counts.setdefault(kind, 0)
            counts[kind] += 1
            group = file.create_group(f"layers/{kind}_{number}/vars" if number else f"layers/{kind}/vars")
            for i, leaf in enumerate(leaf for leaf in LEAVES if leaf in leaves):
                group[str(i)] = leaves[leaf]
        file.create_group("layers/relu/vars")
        file.create_group("optimizer/vars")["0"] = np.int64(7)
    return path


def write_older(path, arrays):
    """A file of Keras 2: LAYER/LAYER/kernel:0."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in arrays]
        for layer, leaves in arrays.items():
            norm = "running_var" in leaves
            depthwise = "depthwise" in layer or "dwconv" in layer
            names = {"weight": "gamma" if norm else "depthwise_kernel" if depthwise else "kernel"}
            names |= {
                "bias": "beta" if norm else "bias",
                "running_mean": "moving_mean",
                "running_var": "moving_variance",
            }
            for leaf, array in leaves.items():
                file[f"{layer}/{layer}/{names[leaf]}:0"] = array
    return path


def equal(variables, arrays, name, **options):
    """Whether every array of an encoder is Keras's, whose axes are in Linen's order but those of depthwise kernels."""
    encoder = create_encoder(name, **options)
    source = find_source(encoder, name, "keras")
    names = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    for (_, *module, leaf), array in flatten_dict(variables).items():
        layer = source.key(tuple(module))
        theirs = arrays[layer][names[leaf]]
        np.testing.assert_array_equal(array, theirs.swapaxes(2, 3) if theirs.shape != array.shape else theirs, layer)


def test_a_file_of_keras_3_which_has_no_names(tmp_path):
    options = {**TENSORFLOW, "depth": 2}
    arrays = layers("mobilenet_v2", **options)
    assert set(MOBILENET) == set(arrays)
    path = write_numbered(tmp_path / "a.weights.h5", MOBILENET, arrays)
    equal(encoder_from_keras("mobilenet_v2", path, **options), arrays, "mobilenet_v2", **options)
    assert read_state_dict(path)["depthwise_conv2d.weight"].shape == (32, 1, 3, 3)


@pytest.mark.parametrize(
    "name, options", [("efficientnet_b0", {**TENSORFLOW, "depth": 2}), ("densenet121", {"depth": 1})]
)
def test_an_older_file_which_has_the_names(name, options, tmp_path):
    arrays = layers(name, **options)
    path = write_older(tmp_path / "a.h5", arrays)
    equal(encoder_from_keras(name, path, **options), arrays, name, **options)
    with h5py.File(path, "r+") as file:  # a whole model is in a group of its own, with its classifier
        for layer in list(file):
            file.move(layer, f"model_weights/{layer}")
        file["model_weights/predictions/predictions/kernel:0"] = np.ones((4, 5), np.float32)
        del file.attrs["layer_names"]
    equal(encoder_from_keras(name, path, **options), arrays, name, **options)


def test_the_classifier_and_the_pixels_of_vgg(tmp_path):
    options = {"depth": 1}
    arrays = layers("vgg16", **options)
    order = ("block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2")
    path = write_numbered(tmp_path / "a.weights.h5", order, arrays)
    variables = load_encoder("vgg16", str(path), **options)
    kernel, theirs = variables["params"]["stem"]["conv"]["kernel"], arrays["block1_conv1"]["weight"]
    std = create_encoder("vgg16").pixel_std
    np.testing.assert_allclose(kernel[:, :, 0], theirs[:, :, 2] * std[0], rtol=1e-5)  # red, which Keras has last
    assert (
        main(["convert", "keras", str(path), "--encoder", "vgg16", "--option", "depth=1", "--out", f"{tmp_path}/b"])
        == 0
    )
    np.testing.assert_array_equal(load_bundle(tmp_path / "b")[1]["params"]["stem"]["conv"]["kernel"], kernel)


def test_hed_is_a_sequential_for_each_block(tmp_path):
    arrays = layers("vgg16", depth=1)
    with h5py.File(tmp_path / "hed.weights.h5", "w") as file:
        for layer, leaves in arrays.items():
            block, conv = layer.split("_conv")
            for i, leaf in enumerate(("weight", "bias")):
                number = "" if conv == "1" else f"_{int(conv) - 1}"
                file[f"{block}/layers/conv2d{number}/vars/{i}"] = leaves[leaf]
        file["dsn1/vars/0"], file["dsn1/vars/1"] = np.ones((1, 1, 64, 1), np.float32), np.ones(1, np.float32)
    equal(encoder_from_keras("vgg16", tmp_path / "hed.weights.h5", depth=1), arrays, "vgg16", depth=1)


def test_what_is_missing_or_too_much_is_listed(tmp_path):
    arrays = layers("vgg16", depth=1)
    order = ("block1_conv1", "block1_conv2", "block2_conv1")
    fewer = write_numbered(tmp_path / "a.weights.h5", order, arrays)
    with pytest.raises(UserError, match="2 missing: block2_conv2"):
        encoder_from_keras("vgg16", fewer, depth=1)
    more = write_older(tmp_path / "b.h5", {**arrays, "extra": {"weight": np.ones((1, 1, 2, 2), np.float32)}})
    with pytest.raises(UserError, match="1 not known: extra.weight"):
        encoder_from_keras("vgg16", more, depth=1)
    with pytest.raises(UserError, match="keras has no encoder 'resnet50'"):
        encoder_from_keras("resnet50", more)


def test_hostile_files(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\xff" * 99)
    with pytest.raises(UserError, match="is no HDF5 file that can be read"):
        read_keras(tmp_path / "a.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["layers/conv2d/vars/0"] = np.ones((1, 1, 1, 1), np.float32)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["layers"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/layers")
    with pytest.raises(UserError, match="holds no weights of layers"):
        read_keras(tmp_path / "link.h5")
    (tmp_path / "raw").write_bytes(bytes(16))
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("layers/conv2d/vars/0", (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])
    with pytest.raises(UserError, match="its numbers are in another file, which is not opened"):
        read_keras(tmp_path / "raw.h5")
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("layers/conv2d/vars/0", (2**20, 2**12), "f4", chunks=(1024, 1024))
    with pytest.raises(UserError, match="says that it holds 17179869184 bytes"):
        read_keras(tmp_path / "large.h5")
    with h5py.File(tmp_path / "name.h5", "w") as file:
        file[b"layers/\xff/vars/0"] = np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(UserError, match="has a name that is no text"):
        read_keras(tmp_path / "name.h5")
    with h5py.File(tmp_path / "text.h5", "w") as file:
        file["layers/conv2d/vars/0"] = "text"
    with pytest.raises(UserError, match="holds no weights of layers"):
        read_keras(tmp_path / "text.h5")
