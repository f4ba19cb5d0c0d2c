"""Weights of ONNX files: what has the names of a state dict, strictly, and nothing that a damaged file says."""

import json

import chex
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from jaxseg.checks import UserError
from jaxseg.cli.program import main
from jaxseg.pretrained import from_smp, load_bundle, load_encoder, read_state_dict
from jaxseg.pretrained.onnx_file import read_onnx
from jaxseg.trained import load
from tests.pretrained.test_convert import torch_state_dict
from tests.pretrained.test_smp import ARGUMENTS, smp_state_dict


def write(path, arrays, *tensors):
    """An ONNX file of one node, whose initializers are the arrays and the tensors."""
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["scores"])], "g", [], [scores], [*arrays, *tensors])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


@pytest.fixture(scope="module")
def weights():
    """Variances are positive, so that the model can be run."""
    return {
        name: np.abs(array) + 0.5 if name.endswith("running_var") else 0.1 * array
        for name, array in smp_state_dict(in_channels=4).items()
    }


def test_smps_model_of_half_precision_with_four_bands(weights, tmp_path, capsys):
    half = {f"model.{name}": array.astype(np.float16) for name, array in weights.items()}
    scales = {"/decoder/Resize_scales": np.float32([1, 1, 2, 2]), "onnx::Slice_3": np.int64([0]), "bn.count": 3}
    path = write(tmp_path / "clouds.onnx", half | scales)
    words = ["--arch", "Unet", "--encoder", "resnet18", "--option", "in_channels=4", "--bands", "red,green,blue,nir"]
    words += [w for k, v in ARGUMENTS.items() for w in ("--option", f"{k}={v}")]
    words += ["--dtype", "float32", "--window", "-1", "3", "--mean", "0.1,0.2,0.3,0.4", "--std", "0.5,0.5,0.5,1"]
    words += ["--class-names", "clear,cloud", "--license", "apache-2.0", "--note", "of a test"]
    assert main(["convert", "onnx", str(path), *words, "--out", str(tmp_path / "bundle")]) == 0
    said = capsys.readouterr()
    assert "3 constants of the graph are no weights and are left out" in said.err
    assert "Unet of onnx" in said.out or "of onnx ->" in said.out
    trained = load(tmp_path / "bundle")
    rounded = {name: array.astype(np.float16).astype(np.float32) for name, array in weights.items()}
    chex.assert_trees_all_equal(
        trained.variables, from_smp("unet", "resnet18", rounded, 2, in_channels=4, **ARGUMENTS)[1]
    )
    assert trained.classes == ("clear", "cloud") and trained.license == "apache-2.0"
    assert (trained.bands.names, trained.bands.dtype) == (("red", "green", "blue", "nir"), "float32")
    image = np.random.default_rng(0).uniform(0, 1, (2, 3, 4)).astype(np.float32)
    normalized = (image - np.float32([0.1, 0.2, 0.3, 0.4])) / np.float32([0.5, 0.5, 0.5, 1])
    np.testing.assert_allclose(trained.preprocessing.normalize(image[None])[0], normalized, atol=1e-5)
    assert main(["verify", str(tmp_path / "bundle")]) == 0
    assert json.loads((tmp_path / "bundle" / "config.json").read_text())["source"] == "of a test"


def test_what_is_missing_or_joined_is_said(weights, tmp_path):
    fewer = {name: array for name, array in weights.items() if not name.startswith("encoder.bn1.")}
    with pytest.raises(UserError, match="4 missing: bn1.running_mean"):
        from_smp("unet", "resnet18", write(tmp_path / "a.onnx", fewer), 2, in_channels=4, **ARGUMENTS)
    joined = write(tmp_path / "b.onnx", fewer | {"onnx::Conv_12": np.ones((8, 4, 3, 3), np.float32)})
    with pytest.raises(UserError, match=r"large arrays without names of parameters: 'onnx::Conv_12'.*PRESERVE"):
        read_onnx(joined)


def test_an_encoder_of_any_library(tmp_path):
    """The names tell the library, and what stands before them is left out."""
    arrays = {f"backbone.{key}": array for key, array in torch_state_dict("vgg11_bn", "torchvision", depth=1).items()}
    path = write(tmp_path / "a.onnx", arrays | {"onnx::Resize_7": np.float32([2, 2])})
    variables = load_encoder("vgg11_bn", str(path), depth=1)
    expected = arrays["backbone.features.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(variables["params"]["stem"]["conv"]["kernel"], expected)
    words = ["--encoder", "vgg11_bn", "--option", "depth=1", "--out", str(tmp_path / "bundle")]
    assert main(["convert", "onnx", str(path), *words]) == 0
    chex.assert_trees_all_equal(load_bundle(tmp_path / "bundle")[1], variables)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, pytest.param("bfloat16", id="bfloat16")])
def test_every_kind_of_number_is_read(dtype, tmp_path):
    import ml_dtypes

    array = np.arange(-3, 3).reshape(2, 3).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    found = read_state_dict(write(tmp_path / "a.onnx", {"fc.weight": array}))["fc.weight"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def tensor(name="fc.weight", **fields):
    return TensorProto(**{"name": name, "data_type": TensorProto.FLOAT, "dims": [3], **fields})


@pytest.mark.parametrize(
    "bad, said",
    [
        (tensor(raw_data=b"\0" * 8), "is no ONNX file that can be read, array 'fc.weight'"),
        (tensor(dims=[2**40, 2**20], raw_data=b"\0" * 8), "is no ONNX file that can be read, array 'fc.weight'"),
        (tensor(dims=[-3], raw_data=b"\0" * 12), "is no ONNX file that can be read, array"),
        (tensor(dims=[10**9], float_data=[1.0]), "is no ONNX file that can be read, array"),
        (tensor(data_location=TensorProto.EXTERNAL), "has its weights in another file, which is not opened"),
        (tensor(data_type=TensorProto.STRING, dims=[10**9]), "large arrays without names"),
        (tensor(data_type=99, dims=[10**9]), "large arrays without names"),
    ],
)
def test_a_tensor_that_is_none_is_refused(bad, said, tmp_path):
    external = bad.external_data.add() if bad.data_location == TensorProto.EXTERNAL else None
    if external is not None:
        external.key, external.value = "location", "/etc/passwd"
    with pytest.raises(UserError, match=said) as error:
        read_onnx(write(tmp_path / "a.onnx", {}, bad))
    assert "a.onnx" in str(error.value) and len(str(error.value)) < 800


def test_what_is_no_onnx_file_is_refused(tmp_path):
    path = tmp_path / "a.onnx"
    for content in (b"", b"\xff" * 99, b"PK\x03\x04", write(path, {"fc.weight": np.ones(99)}).read_bytes()[:-20]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is no ONNX file that can be read|holds no initializers"):
            read_onnx(path)
    with pytest.raises(UserError, match="is no file"):
        read_onnx(tmp_path)
    twice = tensor(raw_data=b"\0" * 12)
    with pytest.raises(UserError, match="two arrays named 'fc.weight'"):
        read_onnx(write(path, {}, twice, twice))


def test_without_the_package_it_says_how_to_get_it(tmp_path, monkeypatch):
    import sys

    path = write(tmp_path / "a.onnx", {"fc.weight": np.ones(3)})
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'jaxseg\[onnx\]'"):
        read_onnx(path)


def test_flags_that_contradict_each_other_are_refused(weights, tmp_path, capsys):
    path = write(tmp_path / "a.onnx", weights)
    begin = ["convert", "onnx", str(path), "--arch", "unet", "--encoder", "resnet18", "--option", "in_channels=4"]
    begin += [w for k, v in ARGUMENTS.items() for w in ("--option", f"{k}={v}")]
    for words, said in (
        (["--bands", "a,b"], "--bands names 2 bands, and the model takes 4"),
        (["--dtype", "uint16"], "--dtype uint16 needs --window LOW HIGH"),
        (["--mean", "1,2,3,4"], "Give --mean and --std, or neither"),
        (["--mean", "1,2,3,4", "--std", "1,2,x,4"], "--std must be numbers with commas"),
        (["--mean", "1,2,3", "--std", "1,2,3,4"], "--mean has 3 numbers, and the model takes 4 bands"),
        (["--mean", "1,2,3,4", "--std", "1,2,0,4"], "--std must be above 0"),
        (["--class-names", "a,b,c"], "--class-names has 3 names, and the model has 2 classes"),
    ):
        assert main([*begin, *words, "--out", str(tmp_path / "bundle")]) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
