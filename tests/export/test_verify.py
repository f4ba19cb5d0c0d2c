"""Exported files on their golden images: files that say the same, files that do not, and damaged ones."""

import json
import zipfile

import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from jaxseg.checks import UserError
from jaxseg.cli.program import main
from jaxseg.data.bands import Bands
from jaxseg.export import Form, export_onnx, export_stablehlo, golden
from jaxseg.export.golden import answers, golden_images, verify_exported
from jaxseg.export.stablehlo import GOLDEN, WEIGHTS
from jaxseg.inference.logits import labels_of, probabilities_of
from tests.export.models import small


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    export_onnx(small(), folder / "model.onnx", Form((21, 30), "probabilities"))
    export_stablehlo(small(), folder / "model.stablehlo", Form((21, 30), dynamic=("batch",)))
    return folder


def changed(files, path, change):
    """The ONNX file after `change` of it."""
    proto = onnx.load(files / "model.onnx")
    change(proto)
    path.write_bytes(proto.SerializeToString())
    return path


def rewritten(files, path, **entries):
    """The StableHLO file with other bytes in some of its entries; None leaves an entry out."""
    with zipfile.ZipFile(files / "model.stablehlo") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = entries.get(name.split(".")[0], old.read(name))
            if content is not None:
                new.writestr(name, content)
    return path


def test_golden_images_are_the_same_for_ever():
    """Files hold their digest: another image makes all of them say that they cannot be verified."""
    image = golden_images(Bands(("a", "b"), "uint16", ((0, 1000), (500, 3000))), Form((20, 30)))
    assert image.dtype == np.uint16 and image[0, 7, 11].tolist() == [776, 1206]
    assert image[..., 1].min() >= 500


def test_files_say_here_what_they_said(files, capsys):
    assert main(["verify", str(files / "model.onnx")]) == 0
    said = capsys.readouterr().out
    assert "content        unchanged" in said and "labels         630 of 630 agree" in said
    assert "probabilities  768 compared, max |difference| 0.00e+00" in said
    assert "onnxruntime" in said.splitlines()[0]
    assert main(["verify", str(files / "model.stablehlo")]) == 0
    said = capsys.readouterr().out
    assert "1260 of 1260 agree" in said and "none come out of the file" in said
    assert "The file says here what it said where it was written." in said


def test_other_weights_are_told(files, tmp_path, capsys):
    def change(proto):
        kernel = max(proto.graph.initializer, key=lambda array: len(array.raw_data) * (len(array.dims) == 4))
        kernel.CopyFrom(numpy_helper.from_array(np.float32(1.3) * numpy_helper.to_array(kernel), kernel.name))

    assert main(["verify", str(changed(files, tmp_path / "other.onnx", change))]) == 1
    assert "CHANGED since the file was written" in capsys.readouterr().out

    def rename(proto):
        (entry,) = [entry for entry in proto.metadata_props if entry.key == "jaxseg.classes"]
        entry.value = json.dumps(json.loads(entry.value)[::-1])

    assert main(["verify", str(changed(files, tmp_path / "other.onnx", rename))]) == 1
    assert "CHANGED since the file was written" in capsys.readouterr().out
    with zipfile.ZipFile(files / "model.stablehlo") as archive:
        weights = bytearray(archive.read(WEIGHTS))
    weights[-2] ^= 64
    other = rewritten(files, tmp_path / "other.stablehlo", model=bytes(weights))
    assert verify_exported(other).intact is False
    assert main(["verify", str(other)]) == 1


def test_a_file_that_computes_something_else_is_told(files, tmp_path, capsys):
    def change(proto):
        next(node for node in proto.graph.node if node.op_type == "Relu").op_type = "Neg"

    other = changed(files, tmp_path / "other.onnx", change)
    found = verify_exported(other)
    assert not found.intact and found.difference > 0.01 and not found.holds
    assert verify_exported(other, tolerance=1).difference == found.difference
    assert main(["verify", str(other)]) == 1
    assert "The file does not hold what it was written with" in capsys.readouterr().out


def without_golden(proto):
    kept = [entry for entry in proto.metadata_props if entry.key != "jaxseg.golden"]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)


def with_golden(**changes):
    def change(proto):
        entry = next(entry for entry in proto.metadata_props if entry.key == "jaxseg.golden")
        entry.value = json.dumps(json.loads(entry.value) | changes)

    return change


@pytest.mark.parametrize(
    "change,said",
    [
        (without_golden, "before exported files had golden images. Export the model again."),
        (with_golden(images="0"), "draws other golden images than jaxseg"),
        (with_golden(labels="AAAA"), "does not read. Export the model again."),
        (with_golden(probabilities="?"), "does not read"),
        (with_golden(probabilities=None), "'golden.probabilities' must be text"),
        (with_golden(where=3), "'golden.where' must be text"),
    ],
)
def test_what_cannot_be_compared_is_told_in_a_sentence(files, tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        verify_exported(changed(files, tmp_path / "other.onnx", change))


def test_a_file_cannot_have_gigabytes_drawn(files, monkeypatch):
    """Whoever wrote it; and what is drawn in parts is what would be drawn at once."""
    assert golden.LARGEST <= 2**25
    monkeypatch.setattr(golden, "LARGEST", 21 * 30 * 3)
    assert verify_exported(files / "model.onnx").holds
    with monkeypatch.context() as patch:
        patch.setattr(np.random, "PCG64", lambda seed: pytest.fail("it draws"))
        with pytest.raises(UserError, match="golden images have 3780 values, and at most 1890 are drawn .* smaller"):
            verify_exported(files / "model.stablehlo")  # of two images: their number is free
    whole = golden_images(Bands(), Form((40, 50)))
    monkeypatch.setattr(golden, "PART", 7)
    np.testing.assert_array_equal(golden_images(Bands(), Form((40, 50))), whole)


def test_damaged_files_are_errors_with_a_remedy(files, tmp_path, capsys):
    content = (files / "model.onnx").read_bytes()
    (tmp_path / "half.onnx").write_bytes(content[: len(content) // 2])
    assert main(["verify", str(tmp_path / "half.onnx")]) == 1
    assert "Copy the file again, or export the model again." in capsys.readouterr().err
    broken = rewritten(files, tmp_path / "broken.stablehlo", **{GOLDEN.split(".")[0]: b"["})
    assert main(["verify", str(broken)]) == 1
    assert "'golden.json' can't be read" in capsys.readouterr().err
    assert main(["verify", str(files / "model.onnx"), "--tolerance", "2"]) == 1
    assert "0 to 1, got 2.0" in capsys.readouterr().err


def test_files_of_before_there_were_golden_images_still_run(files, tmp_path):
    from jaxseg import load_exported

    old = rewritten(files, tmp_path / "old.stablehlo", golden=None)
    image = golden_images(Bands(), Form((21, 30)))
    assert load_exported(old)(image).shape == (1, 21, 30)
    with pytest.raises(UserError, match="before exported files had golden images"):
        verify_exported(old)


@pytest.mark.parametrize("kind", [dict(), dict(activation="sigmoid"), dict(classes=1, threshold=0.3)])
def test_logits_are_answers_by_the_models_activation(kind):
    trained = small(**kind)
    threshold = trained.threshold if trained.num_logits == 1 else None
    said = {"activation": trained.activation, "threshold": threshold, "output": {"name": "logits"}}
    logits = np.random.default_rng(0).normal(size=(1, 5, 6, len(trained.classes))).astype(np.float32)
    logits = logits * (0, 1) if threshold else logits
    labels, probabilities = answers(logits, said)
    np.testing.assert_array_equal(labels, labels_of(jnp.asarray(logits), trained))
    np.testing.assert_allclose(probabilities, probabilities_of(jnp.asarray(logits), trained), atol=1e-6)
    assert len(np.unique(labels)) > 1
