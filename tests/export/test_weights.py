"""Smaller weights in ONNX files: what is stored, what onnxruntime computes, and what it costs."""

import json
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import jaxseg
from jaxseg.checks import UserError
from jaxseg.cli.program import main
from jaxseg.data import Dataset, create_dataset
from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.export import Form, export_onnx
from jaxseg.export.check import Agreement, compare_rounded
from jaxseg.export.golden import verify_exported
from jaxseg.export.onnx_weights import quantize, shrink
from jaxseg.export.score import score
from tests.export.models import COLORS, random_image, small

FORM = Form((24, 32), "probabilities")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    found = {weights: export_onnx(small(), folder / f"{weights}.onnx", FORM, weights=weights) for weights in
             ("float32", "float16", "int8")}  # fmt: skip
    return folder, found


def kernels(path):
    """The weights of the convolutions of a file, in the file's own types."""
    proto = onnx.load(path)
    arrays = {a.name: numpy_helper.to_array(a) for a in proto.graph.initializer}
    makes = {node.output[0]: node for node in proto.graph.node}
    names = [node.input[1] for node in proto.graph.node if node.op_type == "Conv"]

    def stored(name):
        return [arrays[name]] if name in arrays else [array for one in makes[name].input for array in stored(one)]

    return [stored(name) for name in names]


def test_the_weights_are_stored_in_fewer_bits(files):
    folder, _ = files
    exact = kernels(folder / "float32.onnx")
    for (weight,), (half,) in zip(exact, kernels(folder / "float16.onnx"), strict=True):
        assert half.dtype == (np.float16 if weight.size >= 64 else np.float32)
        np.testing.assert_allclose(half, weight, rtol=2**-11, atol=2**-24)
    stored = [one for one in zip(exact, kernels(folder / "int8.onnx"), strict=True) if len(one[1]) == 2]
    assert len(stored) >= 8
    for (weight,), (whole, scale) in stored:
        assert whole.dtype == np.int8 and scale.shape == (len(weight), 1, 1, 1)
        assert (np.abs(whole).reshape(len(whole), -1).max(1) == 127).all()
        assert (np.abs(whole * scale - weight) <= 0.501 * scale).all()


def test_the_results_are_near_those_of_float32_and_the_file_says_how_near(files):
    folder, agreements = files
    image = random_image(24, 32, 3)
    exact = jaxseg.load_exported(folder / "float32.onnx")(image)
    errors = {w: np.abs(jaxseg.load_exported(folder / f"{w}.onnx")(image) - exact).max() for w in ("float16", "int8")}
    assert 0 < errors["float16"] < 1e-3 < errors["int8"] < 0.05
    assert 0 < agreements["float16"].difference < 1e-3 < agreements["int8"].difference < 0.05
    description = jaxseg.load_exported(folder / "int8.onnx").description
    assert description["weights"] == "int8" and description["agreement"]["labels"] == agreements["int8"].labels
    assert verify_exported(folder / "int8.onnx").difference == 0


def graph(weight, operator="MatMul", **attributes):
    """A model of one product."""
    rank = max(weight.ndim, 2)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank) for name in "xy"]
    node = helper.make_node(operator, ["x", "w"], ["y"], **attributes)
    made = helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


RNG = np.random.default_rng(0)
WEIGHTS = {
    "matrix": (RNG.normal(size=(16, 8)), "MatMul", (3, 16)),
    "transposed": (RNG.normal(size=(4, 6, 3, 3)), "ConvTranspose", (1, 4, 5, 5)),
}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_the_scales_are_those_of_the_output_channels(kind, weights):
    weight, operator, shape = WEIGHTS[kind]
    weight = (weight * 3.0 ** np.arange(weight.shape[1]).reshape(-1, *[1] * (weight.ndim - 2))).astype(np.float32)
    proto, x = graph(weight, operator), RNG.normal(size=shape).astype(np.float32)
    small_, rounded = shrink(proto, weights)
    wanted, found, same = (
        onnxruntime.InferenceSession(one.SerializeToString()).run(None, {"x": x})[0] for one in (proto, small_, rounded)
    )
    np.testing.assert_allclose(found, same, rtol=1e-5)
    error = np.abs(found - wanted).max(tuple(n for n in range(found.ndim) if n != 1))
    assert (error < 0.2 * 3.0 ** np.arange(weight.shape[1])).all() and error.any()


def test_matrices_that_resize_stay_as_they_are():
    weight = np.eye(32, dtype=np.float32).reshape(32, 8, 4).mean(-1)  # every column is a mean
    assert shrink(graph(weight), "int8")[0].graph.initializer[0].data_type == TensorProto.FLOAT
    assert shrink(graph(2 * weight), "int8")[0].graph.initializer[0].data_type == TensorProto.INT8


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="too large for float16: use int8 or float32"):
        shrink(graph(np.full((16, 8), 1e5, np.float32)), "float16")
    with pytest.raises(UserError, match="Did you mean 'int8'"):
        shrink(graph(np.ones((16, 8), np.float32)), "int")
    whole, scale = quantize(np.zeros((3, 3), np.float32), 1)
    assert not whole.any() and scale.tolist() == [[1, 1, 1]]


def test_a_runtime_that_computes_otherwise_is_told():
    said = {"output": {"name": "probabilities"}, "threshold": None}
    image = np.full((1, 2, 2, 3), 0.2, np.float32)
    right, off = (lambda x: x), (lambda x: x + np.float32(0.01))
    assert compare_rounded(image, off, off, right, said) == Agreement(pytest.approx(0.01), 1.0)
    with pytest.raises(UserError, match="does not compute with the smaller weights as it should"):
        compare_rounded(image, off, right, right, said)


def labeled(folder, size=(24, 32)):
    """A data set of two images, labeled as the small model labels the first, and the second but for its left half."""
    predictor = jaxseg.Predictor(small())
    names = [{"id": n, "name": "abc"[n], "color": list(COLORS[n])} for n in range(3)]
    for kind in ("images", "labels"):
        (folder / "val" / kind).mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps({"classes": names}))
    for n in range(2):
        image = random_image(*size, 3)[:, :: 1 - 2 * n]
        label = predictor(image).astype(np.uint8)
        label[:, : 16 * n] = (label[:, : 16 * n] + 1) % 3
        Image.fromarray(image).save(folder / "val" / "images" / f"{n}.png")
        Image.fromarray(label).save(folder / "val" / "labels" / f"{n}.png")
    return folder


def test_scores_are_of_both_and_in_the_file(files, tmp_path, capsys):
    small().save(tmp_path / "bundle", with_golden=False)
    words = ["export", str(tmp_path / "bundle"), "--out", str(tmp_path / "a.onnx"), "--size", "24", "32", "--weights"]
    words += ["int8", "--score", "--root", str(labeled(tmp_path / "data"))]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "int8 compared with float32: the same label at" in said
    assert "of float32; the same label at" in said and "val, 2 images: mIoU 0." in said
    scores = jaxseg.load_exported(tmp_path / "a.onnx").description["scores"]
    assert list(scores["miou"]) == ["float32", "int8"] and scores["images"] == 2
    assert 0.5 < scores["miou"]["int8"] < 0.9 and abs(scores["miou"]["int8"] - scores["miou"]["float32"]) < 0.1
    assert 0.9 < scores["same_labels"] <= 1


def test_pixels_that_hold_nothing_are_in_no_score():
    bands = Bands(("a", "b", "c"), nodata=0)
    image, label = random_image(24, 40, 3) | 1, np.zeros((24, 40), np.uint8)
    image[:, :10], label[:, :10] = 0, 1
    data = Dataset("half", tuple("abc"), COLORS, {"val": [dict(image=image, label=label, name="a")]}, bands=bands)
    trained = small(preprocessing=Preprocessing((128,) * 3, (64,) * 3, bands, bucket=8))
    said = {"output": {"name": "labels"}, "threshold": None}
    found = score({"zeros": lambda x: 0 * x[..., 0]}, said, trained, Form((24, 40)), data, "val")
    assert found["miou"] == {"zeros": 1.0}


def test_scores_are_those_of_the_labels(files, tmp_path):
    folder, _ = files
    exported = jaxseg.load_exported(folder / "float32.onnx")
    data = create_dataset("folder", str(labeled(tmp_path)))
    runs = {"float32": exported.run, "first": lambda x: exported.run(x) * np.array([1, 0, 0])}
    scoring = partial(score, description=exported.description, trained=small(), form=FORM, dataset=data, split="val")
    found = scoring(runs)
    labels = np.concatenate([data.splits["val"][n]["label"] for n in range(2)]).ravel()
    said = np.concatenate([jaxseg.Predictor(small())(data.splits["val"][n]["image"]) for n in range(2)]).ravel()
    ious = [((labels == k) & (said == k)).sum() / ((labels == k) | (said == k)).sum() for k in range(3)]
    assert found["miou"]["float32"] == pytest.approx(np.mean(ious), abs=0.01)
    assert found["same_labels"] == pytest.approx((said == 0).mean(), abs=0.01)
    with pytest.raises(UserError, match=r"24x32 pixels \(height x width\), and the file takes 24x40. .* --size 24 32"):
        score(runs, exported.description, small(), Form((24, 40)), data, "val")
