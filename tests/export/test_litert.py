"""LiteRT files: what LiteRT says of them, and files that are not what they should be."""

import json
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import jaxseg
from jaxseg.bench.exported import small_model
from jaxseg.checks import UserError
from jaxseg.cli.program import main
from jaxseg.export import Form, export_litert
from jaxseg.export.golden import verify_exported
from jaxseg.inference.predict import Predictor
from tests.export.models import random_image, small


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("litert") / "model.tflite"
    export_litert(small(), path, Form((21, 30)))
    return path


def test_litert_alone_says_what_the_predictor_says(file):
    image = random_image(21, 30, 3)
    run = Interpreter(model_path=str(file)).get_signature_runner("serving_default")
    np.testing.assert_array_equal(run(image=image[None])["labels"][0], Predictor(small())(image))
    with zipfile.ZipFile(file) as archive:
        said = json.loads(archive.read("description.json"))
    assert said["classes"] == ["a", "b", "c"] and said["kind"] == "litert"


def test_the_file_is_loaded_as_a_function_and_verified(file, capsys):
    exported, image = jaxseg.load_exported(file), random_image(21, 30, 3)
    np.testing.assert_array_equal(exported(image), Predictor(small())(image))
    assert main(["verify", str(file)]) == 0
    said = capsys.readouterr().out
    assert "LiteRT" in said.splitlines()[0] and "630 of 630 agree" in said


def test_probabilities_with_flips_come_out(tmp_path):
    small().save(tmp_path / "bundle", with_golden=False)
    words = ["export", str(tmp_path / "bundle"), "--out", str(tmp_path / "a.tflite"), "--size", "16", "24"]
    assert main([*words, "--output", "probabilities", "--tta", "flip"]) == 0
    image = random_image(16, 24, 3)
    wanted = Predictor(small(), tta="flip").probabilities(image)
    np.testing.assert_allclose(jaxseg.load_exported(tmp_path / "a.tflite")(image), wanted, atol=1e-5)
    assert main([*words, "--dynamic", "batch"]) == 1
    assert main([*words, "--weights", "int8"]) == 1


def test_files_that_are_not_what_they_should_be_are_told(file, tmp_path):
    content = bytearray(file.read_bytes())
    (tmp_path / "half.tflite").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged"):
        jaxseg.load_exported(tmp_path / "half.tflite")
    with zipfile.ZipFile(file) as archive:
        start = archive.infolist()[0].header_offset
    (tmp_path / "none.tflite").write_bytes(bytes(content[:8]) + bytes(start - 8) + bytes(content[start:]))
    with pytest.raises(UserError, match="cannot be run by LiteRT"):
        jaxseg.load_exported(tmp_path / "none.tflite")
    weights = np.frombuffer(bytes(content[:start]), np.uint8).copy()
    weights[start // 2] ^= 1
    (tmp_path / "other.tflite").write_bytes(weights.tobytes() + bytes(content[start:]))
    assert verify_exported(tmp_path / "other.tflite").intact is False


def test_transposed_convolutions_with_more_padding_at_the_end_are_right(tmp_path):
    form = Form((32, 48), "probabilities")  # the converter's own are off by 0.3
    assert export_litert(small_model("stacked_unet"), tmp_path / "a.tflite", form).difference < 1e-5


def test_an_operation_that_litert_lacks_is_named(tmp_path):
    with pytest.raises(UserError, match=r"for LiteRT: it has no tfl.equal of .*xi8>.*\. Export it as ONNX"):
        export_litert(small_model("segnet_basic"), tmp_path / "a.tflite", Form((32, 32)))
    assert list(tmp_path.iterdir()) == []
