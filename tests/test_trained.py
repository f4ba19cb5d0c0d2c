"""A trained model is the same wherever it comes from: a workdir, a bundle, a folder of smp's, a hub repository."""

import json
import shutil
import tarfile
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.data.bands import Bands
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.resize import Resize
from jaxseg.encoders import create_encoder
from jaxseg.evaluation.data import find_dataset
from jaxseg.evaluation.score import evaluate
from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.log import read_rows
from jaxseg.experiment.state import TrainState
from jaxseg.inference import Predictor
from jaxseg.models import create_model, init
from jaxseg.pretrained import save_bundle
from jaxseg.trained import TrainedModel, _activation, load, load_weights

# Written by jaxseg at commit 367298a: a bundle, the workdir of a run of two steps (adamw, its vectors packed; averaged
# variables), and what the two models said of an image: logits, the run's probabilities, the bundle's label map.
BEFORE = Path(__file__).parent / "data_before"


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A folder with the bundle and the workdir."""
    folder = tmp_path_factory.mktemp("before")
    shutil.copytree(BEFORE / "bundle", folder / "bundle")
    with tarfile.open(BEFORE / "workdir.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def expected():
    with np.load(BEFORE / "expected.npz") as arrays:
        return dict(arrays)


def tiny(num_classes=3, **options):
    options = {"encoder_options": {"widths": (4, 6), "convs": 1}, "decoder_channels": (6, 4), **options}
    return create_model("unet", "plain", num_classes=num_classes, **options)


def made(model, seed=0):
    return jax.tree.map(np.asarray, init(model, jax.random.key(seed)))


@pytest.mark.parametrize("name", ["workdir", "bundle"])
def test_what_was_written_before_says_what_it_said(before, expected, name):
    trained = load(before / name)
    predictor = Predictor(trained)
    p = predictor.probabilities(expected["image"])
    if name == "workdir":
        np.testing.assert_allclose(p, expected["workdir_probabilities"], rtol=1e-5)
        assert (trained.step, trained.classes[:2], trained.ignore) == (2, ("background", "disk"), 255)
        assert trained.config.optim.lr == 0.02 and trained.workdir == before / "workdir"
    else:
        np.testing.assert_array_equal(predictor(expected["image"]), expected["bundle_label"])
        assert trained.classes == ("road", "car", "sky") and trained.palette[1] == (200, 0, 0)
        assert (trained.ignore, trained.source, trained.step) == (250, "made for a test", None)
    assert (trained.activation, trained.preprocessing.bucket) == ("softmax", 32)
    x = (expected["image"].astype(np.float32) - np.float32(trained.preprocessing.mean)) / np.float32(
        trained.preprocessing.std
    )
    logits = jax.jit(lambda v, x: trained.model.apply(v, x, train=False)["logits"])(trained.variables, x[None])[0]
    np.testing.assert_allclose(logits, expected[name], rtol=1e-5, atol=1e-6)


def test_a_bundle_of_a_run_is_the_run(before, expected, tmp_path):
    run = load(before / "workdir", "latest")
    run.save(tmp_path)
    bundle = load(tmp_path)
    for field in ("classes", "palette", "ignore", "preprocessing", "activation", "source", "model"):
        assert getattr(bundle, field) == getattr(run, field), field
    chex.assert_trees_all_equal(bundle.variables, run.variables)
    assert (bundle.workdir, bundle.config, bundle.step) == (None, None, None)
    assert json.loads((tmp_path / "config.json").read_text())["format"] == "jaxseg 1"  # older versions read it
    half = load(tmp_path, dtype="bfloat16")
    assert half.model.dtype == half.model.encoder.dtype == jnp.bfloat16
    assert load(before / "workdir", 2, dtype="bfloat16").model == half.model


def test_a_bundle_is_scored_as_its_run_was(before, tmp_path):
    """On data that is named, with the scores that the run wrote of its checkpoint when it was trained."""
    run = load(before / "workdir")
    row = [row for row in read_rows(before / "workdir" / "metrics.jsonl") if row["kind"] == "eval"][-1]
    run.save(tmp_path / "bundle")
    bundle = load(tmp_path / "bundle")
    dataset, split = find_dataset(bundle, name="shapes", options={"size": 32, "train": 4, "val": 2})
    evaluate(bundle, dataset, split, out=tmp_path / "out")
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    np.testing.assert_allclose([scores["miou"], scores["pixel_accuracy"]], [row["miou"], row["pixel_accuracy"]], 1e-6)
    assert (scores["split"], scores["images"], scores["checkpoint"]) == ("val", 2, None)
    assert scores["classes"] == list(run.classes) and "loss" not in scores
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"scores.json", "confusion.png", "predictions.png"}


def test_a_bundle_keeps_every_field(tmp_path):
    model = tiny()
    fields = dict(classes=("a", "b", "c"), palette=((1, 2, 3), (4, 5, 6), (7, 8, 9)), ignore=77)
    bands = Bands(("gray", "nir", "lidar"), "uint16", ((0, 9), (1, 8), (2, 7)), nodata=3.0)
    seen = Preprocessing((1, 2, 3), (4, 5, 6), bands, Resize(short_side=5), "reflect", (1, 7), bucket=8)
    fields |= dict(preprocessing=seen, activation="sigmoid", source="here", threshold=0.3, values=(7, 8, 9))
    TrainedModel(model, made(model), **fields).save(tmp_path)
    loaded = load(tmp_path)
    assert {name: getattr(loaded, name) for name in fields} == fields


def test_names_that_a_bundle_lacks_are_filled_in(tmp_path):
    save_bundle(tmp_path, tiny(), made(tiny()))
    assert load(tmp_path).classes == ("class 0", "class 1", "class 2")
    assert len(set(load(tmp_path).palette)) == 3
    one = tiny(num_classes=1)
    save_bundle(tmp_path, one, made(one), classes=["crack"], palette=[(9, 9, 9)])
    loaded = load(tmp_path)
    assert loaded.classes == ("background", "crack") and loaded.palette[1] == (9, 9, 9) and len(loaded.palette) == 2
    assert loaded.activation == "sigmoid"


def test_one_class_is_above_zero(tmp_path):
    """Label 1 is where the logit is positive, and its probability is the sigmoid."""

    class Net:
        num_classes = 1

        def apply(self, variables, images, *, train):
            return {"logits": images[..., :1] * variables["gain"]}

    fields = dict(
        classes=("no", "yes"),
        palette=((0, 0, 0), (9, 9, 9)),
        ignore=255,
        preprocessing=Preprocessing((99.0,) * 3, (10.0,) * 3),
    )
    predictor = Predictor(TrainedModel(Net(), {"gain": 1.0}, **fields, activation="sigmoid"))
    image = np.random.default_rng(0).integers(80, 120, (5, 9, 3), np.uint8)
    logit = (image[..., 0] - 99.0) / 10.0
    label = predictor(image)
    np.testing.assert_array_equal(label, logit > 0)
    assert 0 < label.mean() < 1
    p = predictor.probabilities(image)
    assert p.shape == (5, 9, 2)
    np.testing.assert_allclose(p[..., 1], 1 / (1 + np.exp(-logit)), rtol=1e-5)


@pytest.mark.parametrize(
    "terms,activation",
    [
        ({"cross_entropy": 1.0}, "softmax"),
        ({"binary_cross_entropy": 1.0, "sigmoid_dice": 0.5}, "sigmoid"),
        ({"binary_cross_entropy": 1.0, "dice": 0.5}, "softmax"),
    ],
)
def test_the_activation_is_the_losses(terms, activation):
    config = default_config()
    config.loss.terms = terms
    assert _activation(config) == activation


def test_the_hub_is_asked_for_the_revision(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    save_bundle(tmp_path, tiny(), made(tiny()), source="of the hub")

    def snapshot_download(*, repo_id, revision, **rest):
        assert (repo_id, revision) == ("owner/repo", "v2")
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    assert load("hf:owner/repo@v2").source == "of the hub"


def test_what_is_no_trained_model_is_said(before, tmp_path):
    def refused(match, *arguments):
        with pytest.raises(UserError, match=match):
            load(*arguments)

    refused("There is no file or folder 'nowhere'", "nowhere")
    refused("is a file, and a model is a folder.*jaxseg convert", before / "bundle" / "model.safetensors")
    (tmp_path / "exported.onnx").touch()
    refused("is exported.*Name what it was exported of", tmp_path / "exported.onnx")
    refused("holds no trained model: expected a run's workdir, a bundle", tmp_path)
    refused("is not a run's workdir: it has no checkpoint '3'", before / "bundle", 3)
    refused("No checkpoint '3' in .*Known: best, latest, 2", before / "workdir", 3)
    encoder = create_encoder("plain", widths=(4, 6))
    save_bundle(tmp_path / "encoder", encoder, made(encoder))
    refused("holds an encoder alone.*config.model.encoder_weights=", tmp_path / "encoder")
    (tmp_path / "config.json").write_text("{")
    refused("config.json can't be read: ", tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    refused("config.json can't be read: it holds a list", tmp_path)
    shutil.copytree(before / "workdir", tmp_path / "run")
    (tmp_path / "run" / "dataset.json").unlink()
    refused("dataset.json is missing", tmp_path / "run")


def test_weights_to_go_on_from(before, tmp_path):
    """Of a workdir and of a bundle; a head of other classes is replaced only when asked."""
    run = load(before / "workdir")
    fresh = made(run.model, seed=5)
    chex.assert_trees_all_equal(load_weights(fresh, before / "workdir"), run.variables)
    other = made(run.model.clone(head=run.model.head.clone(num_classes=5)), seed=5)
    with pytest.raises(UserError, match="has another head than this one.*config.model.replace_head=True"):
        load_weights(other, before / "workdir")
    mixed = load_weights(other, before / "workdir", replace_head=True)
    for part in ("encoder", "decoder"):
        chex.assert_trees_all_equal(mixed["params"][part], run.variables["params"][part])
    chex.assert_trees_all_equal(mixed["params"]["head"], other["params"]["head"])
    with pytest.raises(UserError, match="does not fit the model in"):
        load_weights(made(tiny(attention="scse")), before / "workdir", replace_head=True)


def test_best_is_the_default(before, tmp_path):
    """Not the latest: the checkpoint with the highest validation mIoU."""
    shutil.copytree(before / "workdir", tmp_path / "run")
    variables = load(tmp_path / "run").variables
    zeros = jax.tree.map(np.zeros_like, variables)
    checkpoints = Checkpoints(tmp_path / "run", writable=True)
    checkpoints.save(4, TrainState(step=jnp.array(4), **zeros, opt_state={}, ema={}), {})
    checkpoints.close()
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "eval", "step": 4, "miou": 0.001}\n')
    assert [load(tmp_path / "run", *which).step for which in ((), ("best",), ("latest",), ("4",))] == [2, 2, 4, 4]
    chex.assert_trees_all_equal(load(tmp_path / "run", 4).variables, zeros)


def test_reading_a_run_changes_nothing_in_it(before, tmp_path):
    """A run that is writing a checkpoint at this moment has a temporary folder, which is not the reader's to clear."""
    shutil.copytree(before / "workdir", tmp_path / "run")
    unfinished = tmp_path / "run" / "checkpoints" / "99.orbax-checkpoint-tmp"
    unfinished.mkdir()
    files = sorted(tmp_path.rglob("*"))
    load(tmp_path / "run")
    assert sorted(tmp_path.rglob("*")) == files
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(UserError, match="No checkpoint in"):
        load(tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("source", ["", None, 3])
def test_what_is_no_name_is_said(source):
    with pytest.raises(UserError, match="Expected a path or hf:OWNER/REPO, got"):
        load(source)
