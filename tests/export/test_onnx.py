"""ONNX files: what onnxruntime says of them, and files that are not what they should be."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import jaxseg
from jaxseg.bench.exported import small_model
from jaxseg.checks import UserError
from jaxseg.cli.program import main
from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.resize import Resize
from jaxseg.export import Form, export_onnx
from jaxseg.inference.predict import Predictor
from tests.export.models import MEAN, STD, random_image, small


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export_onnx(small(), path, Form((21, 30)))
    return path


def test_onnxruntime_alone_says_what_the_predictor_says(file):
    image = random_image(21, 30, 3)
    session = onnxruntime.InferenceSession(file)
    (label,) = session.run(None, {"image": image[None]})
    np.testing.assert_array_equal(label[0], Predictor(small())(image))
    said = {k.removeprefix("jaxseg."): json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert said["classes"] == ["a", "b", "c"]
    assert Preprocessing.from_json(said["preprocessing"]) == small().preprocessing
    assert said["network_size"] == [24, 32]
    assert "21 x 30 pixels" in said["use"]


def test_the_file_is_loaded_as_a_function(file):
    exported, image = jaxseg.load_exported(file), random_image(21, 30, 3)
    np.testing.assert_array_equal(exported(image), Predictor(small())(image))
    with pytest.raises(UserError, match=r"uint8\[1, 21, 30, 3\], got uint8 of shape \(21, 31, 3\)"):
        exported(random_image(21, 31, 3))


def test_number_and_size_of_the_images_may_be_left_open(tmp_path):
    trained = small(preprocessing=Preprocessing(MEAN, STD, bucket=8, fill="reflect"))
    form = Form((24, 40), "probabilities", ("batch", "size"))
    assert export_onnx(trained, tmp_path / "open.onnx", form).difference < 1e-5
    exported = jaxseg.load_exported(tmp_path / "open.onnx")
    image = random_image(17, 40, 3)
    found = exported(np.stack([image, image[::-1], image]))
    assert found.shape == (3, 17, 40, 3)
    np.testing.assert_allclose(found[0], exported(image), atol=1e-6)


BANDS = Bands(("near infrared", "height"), "uint16", ((0, 3000), (100, 900)), nodata=0)
KINDS = {
    "one class": (small(1, threshold=0.4, activation="sigmoid"), "labels"),
    "sigmoids": (small(activation="sigmoid"), "probabilities"),
    "bands with holes": (small(preprocessing=Preprocessing((100, 90), (50, 60), BANDS, bucket=8)), "probabilities"),
    "resized": (small(preprocessing=Preprocessing(MEAN, STD, bucket=8, resize=Resize(factor=0.5))), "logits"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_models_may_be_is_in_the_file(kind, tmp_path):
    trained, output = KINDS[kind]
    agreement = export_onnx(trained, tmp_path / "model.onnx", Form((21, 30), output))
    assert agreement.labels == 1


def test_a_bfloat16_model_is_written_in_float32(tmp_path):
    export_onnx(small(dtype="bfloat16"), tmp_path / "model.onnx", Form((16, 16), "probabilities"))
    image = random_image(16, 16, 3)
    found = jaxseg.load_exported(tmp_path / "model.onnx")(image)
    np.testing.assert_allclose(found, Predictor(small()).probabilities(image), atol=1e-5)


@pytest.mark.parametrize("name", ["segnet", "patch_cnn", "segformer"])
def test_architectures_of_other_operations(name, tmp_path):
    """What all others are is in docs/export.md, by `jaxseg export-table`."""
    agreement = export_onnx(small_model(name), tmp_path / "model.onnx", Form((32, 32), "probabilities"))
    assert agreement.difference < 1e-4


def test_a_program_that_onnx_does_not_know_is_told_before_anything_is_written(tmp_path):
    class Sorting:
        num_classes = 3

        def apply(self, variables, images, *, train):
            return {"logits": jnp.sort(images, axis=1)}

    trained = small()
    with pytest.raises(UserError, match="sort"):
        export_onnx(dataclasses.replace(trained, model=Sorting(), variables={}), tmp_path / "no.onnx", Form((8, 8)))
    assert list(tmp_path.iterdir()) == []


def changed(file, path, change):
    proto = onnx.load(file)
    change(proto)
    path.write_bytes(proto.SerializeToString())
    return path


def outside(proto):
    array = proto.graph.initializer[0]
    array.data_location = TensorProto.EXTERNAL
    entry = array.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def without_description(proto):
    del proto.metadata_props[:]


def wrong_operator(proto):
    proto.graph.node.append(helper.make_node("Nonsense", [proto.graph.node[0].output[0]], ["x"]))


@pytest.mark.parametrize(
    "change,said",
    [
        (outside, "in other files"),
        (without_description, "is no file of `jaxseg export`"),
        (wrong_operator, "cannot be run"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_told_in_a_sentence(file, tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        jaxseg.load_exported(changed(file, tmp_path / "changed.onnx", change))


def test_a_damaged_file_is_told_in_a_sentence(file, tmp_path):
    content = file.read_bytes()
    for name, damaged in {"half": content[: len(content) // 2], "text": b"hello", "empty": b""}.items():
        path = Path(tmp_path / name)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged|no file of"):
            jaxseg.load_exported(path)


def test_files_with_bytes_that_are_others_are_told_in_sentences(file, tmp_path):
    """Each of 50 files, a few bytes of which are random: a sentence, or labels; nothing else is raised."""
    rng, content = np.random.default_rng(0), np.frombuffer(file.read_bytes(), np.uint8)
    said = 0
    for _ in range(50):
        damaged = content.copy()
        places = rng.integers(0, len(damaged), 3)
        if rng.random() < 0.5:  # the description is at the end
            places = len(damaged) - 1 - places % 3000
        damaged[places] = rng.integers(0, 256, 3)
        (tmp_path / "damaged.onnx").write_bytes(damaged.tobytes())
        try:
            jaxseg.load_exported(tmp_path / "damaged.onnx")(np.zeros((21, 30, 3), np.uint8))
        except UserError:
            said += 1
    assert 5 < said < 50


def test_the_command_writes_a_file_and_says_what_it_is(tmp_path, capsys):
    small().save(tmp_path / "bundle")
    out = tmp_path / "model.onnx"
    words = ["export", str(tmp_path / "bundle"), "--out", str(out), "--size", "16", "24", "--dynamic", "batch"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "labels of uint8[batch, 16, 24, 3], onnx -> " in said
    assert "the same label at 100.000 % of the pixels" in said
