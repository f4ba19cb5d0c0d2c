"""Golden images: a bundle says of its own what it said when it was written, and what is damaged says so."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxseg.checks import UserError
from jaxseg.cli.program import main
from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.resize import Resize
from jaxseg.inference.verify import compare, verify
from jaxseg.models import create_model, init
from jaxseg.pretrained import save_bundle
from jaxseg.pretrained.calibration import Calibration
from jaxseg.pretrained.golden import FILE, draw_image, read_golden
from jaxseg.trained import TrainedModel, load

BEFORE = Path(__file__).parent.parent / "data_before" / "bundle"
BANDS = Bands(("red", "green", "blue", "nir", "swir"), "uint16", ((0, 900), (0, 800), (5, 700), (0, 600), (0, 500)))


def tiny(num_classes, **options):
    options |= {"encoder_options": {"widths": (4, 6), "convs": 1}, "decoder_channels": (6, 4)}
    model = create_model("unet", "plain", num_classes=num_classes, **options)
    return model, jax.tree.map(np.asarray, init(model, jax.random.key(1)))  # with which every class is somewhere


def saved(folder, num_classes=3, **fields):
    model, variables = tiny(num_classes, in_channels=fields.pop("in_channels", None))
    save_bundle(folder, model, variables, **fields)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("golden") / "bundle")


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "copy")


def test_every_part_of_a_bundles_meaning_is_in_it(tmp_path):
    """The predictor and the golden image are computed by different code: the rule of resizing, padding, bands, phase,
    sigmoids and the calibration are in both."""
    seen = Preprocessing((100,) * 5, (50,) * 5, BANDS, Resize(short_side=40), "reflect", (1, 7), bucket=16)
    calibration = Calibration("vector", (0.5, 2.0, 1.0), (0.1, -0.2, 0.0), 3, "val", activation="sigmoid")
    folder = saved(tmp_path, preprocessing=seen, activation="sigmoid", calibration=calibration, in_channels=5)
    found = verify(folder)
    assert found.holds and found.agreeing == found.pixels == 61 * 75 and found.compared == 256 * 3
    assert found.difference < 1e-5 and found.intact is True
    golden = read_golden(folder, seen, 3)
    assert len(np.unique(golden.labels)) == 3 and golden.probabilities.std() > 0.05
    assert golden.image.dtype == np.uint16 and golden.image.shape == (61, 75, 5)
    trained = load(folder)
    assert trained.calibration == calibration
    trained.save(tmp_path / "again")  # the calibration goes with it
    assert load(tmp_path / "again").calibration == calibration
    for name, array in load_file(folder / FILE).items():
        np.testing.assert_array_equal(load_file(tmp_path / "again" / FILE)[name], array)


def test_one_class_has_its_threshold(tmp_path):
    folder = saved(tmp_path, 1, threshold=0.52, activation="sigmoid")
    found = verify(folder)
    assert found.holds and found.agreeing == found.pixels
    golden = read_golden(folder, load(folder).preprocessing, 2)
    p = golden.probabilities[:, 1]
    np.testing.assert_array_equal(golden.labels[tuple(golden.places.T)], p > 0.52)
    assert 0 < (p > 0.52).mean() < 1


def test_the_command_says_what_agrees(bundle, copy, capsys):
    assert main(["verify", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert "labels             4575 of 4575 agree" in said and "max |difference| " in said
    assert said.endswith("The bundle says here what it said where it was written.\n")
    arrays = load_file(copy / "model.safetensors")
    arrays["params/head/conv/bias"] = arrays["params/head/conv/bias"] + np.float32([0.5, 0, 0])
    save_file(arrays, copy / "model.safetensors")
    assert main(["verify", str(copy)]) == 1
    said = capsys.readouterr().out
    assert "model.safetensors is not the file that was written with the golden image." in said
    assert not verify(copy, tolerance=1.0).holds  # whatever the tolerance


def test_a_small_difference_is_none_and_a_large_one_is(bundle):
    golden = read_golden(bundle, load(bundle).preprocessing, 3)
    p = np.zeros((*golden.labels.shape, 3), np.float32)
    p[tuple(golden.places.T)] = golden.probabilities
    assert compare(golden, golden.labels, p).holds
    assert compare(golden, golden.labels, p + 5e-4).holds
    assert not compare(golden, golden.labels, p + 2e-3).holds
    assert not compare(golden, golden.labels, np.full_like(p, np.nan)).holds
    labels = golden.labels.copy()
    labels[0, :4] += 1
    assert compare(golden, labels, p).holds
    labels[0] += 1
    assert not compare(golden, labels, p).holds
    with pytest.raises(UserError, match="Expected labels"):
        compare(golden, golden.labels[1:], p[1:])


def test_an_older_bundle_says_that_it_has_none(capsys):
    assert main(["verify", str(BEFORE)]) == 1
    assert "has no golden.safetensors: the bundle was written before there were golden" in capsys.readouterr().err


def test_what_has_none(tmp_path):
    saved(tmp_path)
    saved(tmp_path, with_golden=False)
    assert not (tmp_path / FILE).exists()  # it was of other weights
    saved(tmp_path / "giant", preprocessing=Preprocessing((1,) * 3, (1,) * 3, resize=Resize(short_side=4096)))
    assert not (tmp_path / "giant" / FILE).exists()
    with pytest.raises(UserError, match="is not a bundle: expected a folder that `jaxseg bundle`"):
        verify(tmp_path / "nowhere")


def changed(**arrays):
    return lambda old: {**old, **arrays}


@pytest.mark.parametrize(
    "change, said",
    [
        (changed(more=np.zeros(3)), "expected image, labels, places, probabilities"),
        (lambda old: {"image": old["image"]}, "expected image, labels, places, probabilities"),
        (changed(image=np.zeros((61, 75, 3), np.int16)), "the image is int16"),
        (changed(image=np.zeros((61, 75, 4), np.uint8)), "with 3 bands"),
        (changed(image=np.zeros((61, 75), np.uint8)), "the image is uint8 of shape"),
        (changed(image=np.zeros((0, 75, 3), np.uint8)), "the image is uint8 of shape"),
        (changed(image=np.zeros((1025, 1, 3), np.uint8)), "at most 1024 pixels a side"),
        (changed(labels=np.zeros((61, 74), np.uint8)), "the labels are uint8 of shape"),
        (changed(labels=np.zeros((61, 75), np.float32)), "the labels are float32"),
        (changed(labels=np.full((61, 75), 3, np.uint8)), "a label is none of 3"),
        (changed(places=np.zeros((0, 2), np.int32)), "the places are not"),
        (changed(places=np.zeros((4, 2), np.float32)), "the places are not"),
        (changed(places=np.zeros((), np.int32)), "the places are not"),
        (changed(places=np.full((256, 2), -1, np.int32)), "a place is outside of the image"),
        (changed(places=np.full((256, 2), 70, np.int32)), "a place is outside of the image"),
        (changed(probabilities=np.zeros((256, 2), np.float32)), "expected 3 probabilities"),
        (changed(probabilities=np.full((256, 3), np.nan, np.float32)), "expected 3 probabilities"),
        (changed(probabilities=np.full((256, 3), 2, np.float32)), "expected 3 probabilities"),
    ],
)
def test_what_is_no_golden_image_is_refused(copy, change, said):
    save_file(change(load_file(copy / FILE)), copy / FILE)
    with pytest.raises(UserError, match=said) as error:
        read_golden(copy, load(copy).preprocessing, 3)
    assert str(copy) in str(error.value) and len(str(error.value)) < 800


def test_what_is_no_file_of_one_is_refused(copy):
    seen = load(copy).preprocessing
    for content in (b"", b"\xff" * 99, (10**12).to_bytes(8, "little") + b"{}"):
        (copy / FILE).write_bytes(content)
        with pytest.raises(UserError, match="is no .safetensors file that can be read"):
            read_golden(copy, seen, 3)
    with (copy / FILE).open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(UserError, match="more than 16 MiB"):
        read_golden(copy, seen, 3)
    (copy / FILE).unlink()
    (copy / FILE).mkdir()
    with pytest.raises(UserError, match="is no file"):
        read_golden(copy, seen, 3)


def test_a_rule_that_makes_a_giant_of_it_is_refused(bundle):
    seen = load(bundle).preprocessing
    giant = Preprocessing(seen.mean, seen.std, resize=Resize(size=(10**9, 10**9)))
    with pytest.raises(UserError, match="the rule of resizing makes more than"):
        read_golden(bundle, giant, 3)


@pytest.mark.parametrize(
    "bands", [Bands(), Bands(("a",), "int16", ((-500, 900),)), Bands(tuple("abcdefg"), "float32", ((0.5, 1.5),) * 7)]
)
def test_the_image_reaches_from_end_to_end(bands):
    image = draw_image(bands)
    np.testing.assert_array_equal(image, draw_image(bands))
    low, high = (bands.window or ((0, 255),))[0]
    assert image.dtype == bands.dtype and image.shape == (61, 75, bands.count)
    assert (image.min((0, 1)) == low).all() and (image.max((0, 1)) == high).all()
    assert image.std((0, 1)).min() > 0.15 * (high - low)


def test_a_runs_calibration_and_scores_are_in_its_bundle(tmp_path):
    """Of the checkpoint that is written, and of no other."""
    import tarfile

    from jaxseg.inference.calibration import save_calibration

    with tarfile.open(BEFORE.parent / "workdir.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    run = load(tmp_path / "workdir")
    count = len(run.classes)
    with (run.workdir / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "eval", "step": 99, "miou": 0.001}\n')  # of a checkpoint that is not there any more
    save_calibration(Calibration("temperature", (0.5,), (0.0,), run.step, "val"), run.workdir)
    run.save(tmp_path / "bundle", with_golden=False)
    bundle = load(tmp_path / "bundle")
    assert bundle.calibration.scale == (0.5,) and bundle.calibration.split == "val"
    assert bundle.scores["checkpoint"] == run.step and bundle.scores["split"] == "val"
    assert bundle.scores["data"] == "shapes" and bundle.scores["date"].startswith("20")
    assert 0.001 < bundle.scores["metrics"]["miou"] <= 1 and "loss" not in bundle.scores["metrics"]
    assert sum(name.startswith("iou/") for name in bundle.scores["metrics"]) <= count
    save_calibration(Calibration("temperature", (0.5,), (0.0,), run.step + 1, "val"), run.workdir)
    with pytest.warns(UserWarning, match="and is not used"):
        run.save(tmp_path / "bundle", with_golden=False)
    assert load(tmp_path / "bundle").calibration is None


def test_what_no_bundle_has_is_refused(copy):
    import json

    config = json.loads((copy / "config.json").read_text())
    good = {"kind": "vector", "scale": [1, 1, 1], "bias": [0, 0, 0], "checkpoint": 1, "split": "val", "report": {}}
    scores = {"data": "a", "split": "val", "date": "2026-11-27", "checkpoint": 1, "metrics": {"miou": 0.5}}
    for changes, said in (
        ({"calibration": good | {"scale": [1, 1], "bias": [0, 0]}}, "'calibration.scale' must be"),
        ({"calibration": good | {"activation": "sigmoid"}}, "the calibration is of the probabilities of a sigmoid"),
        ({"calibration": [1]}, "'calibration' must be an object"),
        ({"scores": scores | {"metrics": {"miou": "high"}}}, "'scores.metrics.miou' must be a finite number"),
        ({"scores": scores | {"metrics": {str(i): 0 for i in range(20000)}}}, "at most 16384 numbers"),
        ({"scores": scores | {"data": 3}}, "'scores.data' must be text"),
        ({"scores": 3}, "'scores' must be an object"),
        ({"license": 3}, "'license' must be text"),
    ):
        (copy / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(UserError, match=said):
            load(copy)
    (copy / "config.json").write_text(json.dumps(config | {"calibration": good, "scores": scores}))
    assert isinstance(load(copy), TrainedModel)
