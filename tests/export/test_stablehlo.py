"""StableHLO files: written, read, run; damaged, old and hostile ones."""

import json
import zipfile

import jax
import jax.export
import numpy as np
import pytest

import jaxseg
from jaxseg.checks import UserError
from jaxseg.cli.program import main
from jaxseg.export import Form, export_stablehlo
from jaxseg.export.stablehlo import DESCRIPTION, PLATFORMS, PROGRAM, WEIGHTS
from jaxseg.inference.predict import Predictor
from tests.export.models import random_image, small


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("stablehlo") / "model.stablehlo"
    export_stablehlo(small(), path, Form((24, 32)))
    return path


def rewritten(file, path, **entries):
    """The file with other bytes in some of its entries; None leaves an entry out."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = entries.get(name.split(".")[0], old.read(name)) if "cuda" not in name else b""
            if content is not None:
                new.writestr(name, content)
    return path


def test_the_file_says_what_the_predictor_says(file):
    exported, image = jaxseg.load_exported(file), random_image(24, 32, 3)
    label = exported(image)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, Predictor(small())(image))
    np.testing.assert_array_equal(exported(image[None])[0], label)
    assert exported.classes == ("a", "b", "c")
    assert exported.palette[1] == (200, 30, 30)
    assert exported.description["jax"] == jax.__version__
    assert exported.description["preprocessing"]["bucket"] == 8


def test_jax_alone_can_run_the_file(file):
    from safetensors.numpy import load

    with zipfile.ZipFile(file) as archive:
        program = jax.export.deserialize(bytearray(archive.read(PROGRAM.format("cpu"))))
        weights = load(archive.read(WEIGHTS))
        others = [jax.export.deserialize(bytearray(archive.read(PROGRAM.format(name)))).platforms for name in PLATFORMS]
    assert others == [("cpu",), ("cuda",), ("tpu",)]
    image = random_image(24, 32, 3)
    np.testing.assert_array_equal(program.call(weights, image[None])[0], Predictor(small())(image))


def test_number_and_size_of_the_images_may_be_left_open(tmp_path):
    form = Form((24, 40), "probabilities", ("batch", "size"))
    agreement = export_stablehlo(small(), tmp_path / "open.zip", form)
    assert agreement.difference < 1e-5
    exported = jaxseg.load_exported(tmp_path / "open.zip")
    image = random_image(17, 40, 3)
    found = exported(np.stack([image, image[::-1], image]))
    assert found.shape == (3, 17, 40, 3)
    np.testing.assert_allclose(found[0], exported(image), atol=1e-6)
    with pytest.raises(UserError, match="width up to 40"):
        exported(random_image(17, 41, 3))


@pytest.mark.parametrize(
    "image,said",
    [
        (random_image(24, 31, 3), r"uint8\[1, 24, 32, 3\], got uint8 of shape \(24, 31, 3\)"),
        (random_image(24, 32, 3).astype(np.float32), "got float32"),
        (random_image(24, 32, 3)[..., 0], r"shape \(24, 32\)"),
    ],
)
def test_an_image_that_does_not_fit_is_an_error(file, image, said):
    with pytest.raises(UserError, match=said):
        jaxseg.load_exported(file)(image)


def described(file, **changes):
    with zipfile.ZipFile(file) as archive:
        return json.dumps(json.loads(archive.read(DESCRIPTION)) | changes).encode()


SMALLER = {"name": "image", "dtype": "uint8", "shape": [1, 9, 9, 3]}


def hostile(file):
    """A program of the same images and weights that calls a function of the process by its name."""
    with zipfile.ZipFile(file) as archive:
        given = jax.export.deserialize(bytearray(archive.read(PROGRAM.format("cpu"))))
    (weights, image), _ = jax.tree.unflatten(given.in_tree, given.in_avals)

    def program(weights, image):
        spec = jax.ShapeDtypeStruct(image.shape[:3], "uint8")
        return jax.ffi.ffi_call("system", spec)(image)

    allowed = [jax.export.DisabledSafetyCheck.custom_call("system")]
    specs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (weights, image))
    exported = jax.export.export(jax.jit(program), platforms=("cpu",), disabled_checks=allowed)(*specs)
    return bytes(exported.serialize())


@pytest.mark.parametrize(
    "change,said",
    [
        (lambda file: {"program": b""}, "does not read"),
        (lambda file: {"program": bytes(range(256)) * 9}, "does not read"),
        (lambda file: {"program": None}, "it has no .program.cpu.bin."),
        (lambda file: {"model": b"\xff" * 40}, "weights can't be read"),
        (lambda file: {"description": b"[" * 100_000}, "can't be read"),
        (lambda file: {"description": described(file, format="jaxseg export 9")}, "this version of `jaxseg export`"),
        (lambda file: {"description": described(file, classes=[1])}, "'classes' must be"),
        (lambda file: {"description": described(file, size=[24, -1])}, "'size' must be"),
        (lambda file: {"description": described(file, input=SMALLER)}, "does not fit its weights and its description"),
        (lambda file: {"program": hostile(file)}, "calls what is not part of it"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_it_should_be_is_told_in_a_sentence(file, tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        jaxseg.load_exported(rewritten(file, tmp_path / "changed.zip", **change(file)))


def test_an_old_program_names_who_wrote_it_and_when(file, tmp_path):
    changes = {"program": b"old", "description": described(file, jax="0.4.30", date="2024-07-01")}
    with pytest.raises(UserError, match=r"jax 0\.4\.30 wrote it on 2024-07-01, and such programs"):
        jaxseg.load_exported(rewritten(file, tmp_path / "old.zip", **changes))


def test_a_file_cut_short_or_missing_is_an_error(file, tmp_path):
    with pytest.raises(UserError, match="There is no file"):
        jaxseg.load_exported(tmp_path / "none.zip")
    cut = tmp_path / "cut.stablehlo"
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        content[archive.getinfo(WEIGHTS).header_offset + 100] ^= 255
    cut.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        jaxseg.load_exported(cut)


def test_the_command_writes_a_file_and_says_what_it_is(tmp_path, capsys):
    small().save(tmp_path / "bundle")
    out = tmp_path / "out" / "model.stablehlo"
    assert main(["export", str(tmp_path / "bundle"), "--out", str(out), "--size", "16", "24"]) == 0
    said = capsys.readouterr().out
    assert "labels of uint8[1, 16, 24, 3], stablehlo -> " in said
    assert "the same label at 100.000 % of the pixels" in said
    assert jaxseg.load_exported(out).form.size == (16, 24)
    assert main(["export", str(tmp_path / "bundle"), "--out", str(tmp_path)]) == 1
    assert "expected the name of a file" in capsys.readouterr().err
