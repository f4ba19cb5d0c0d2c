"""A run that goes on: with other settings, other data, on another machine, or with files that are gone."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

import jaxseg
from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.log import read_rows
from jaxseg.pretrained.bundle import save_bundle
from jaxseg.training.loop import train


@dataclasses.dataclass(frozen=True)
class Run:
    """A workdir, the data that it learned from, and its config."""

    workdir: object
    root: object
    config: object


def _write_data(root):
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for part in ("images", "labels"):
            (root / split / part).mkdir(parents=True)
        for i in range(count):
            image = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"{i}.png")
            Image.fromarray((image[..., 0] > 127).astype(np.uint8)).save(root / split / "labels" / f"{i}.png")
    (root / "classes.json").write_text('{"classes": ["dark", "bright"]}')


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of one epoch, 4 steps."""
    folder = tmp_path_factory.mktemp("run")
    _write_data(folder / "data")
    c = default_config()
    c.data.update(name="folder", root=str(folder / "data"), canvas=(16, 16), crop=(16, 16), batch_size=2)
    c.model.encoder = "plain"
    c.model.encoder_options = {"widths": (4,), "convs": 1}
    c.model.options = {"decoder_channels": (4,)}
    c.train.update(epochs=1, compilation_cache=str(folder / "compiled"))
    c.log.update(every=1, tensorboard=False, images=0)
    c.checkpoint.update(every=2, keep=1)
    train(c, folder / "run")
    return Run(folder / "run", folder / "data", c)


@pytest.fixture
def run(whole, tmp_path):
    """A copy of it, data and all."""
    shutil.copytree(whole.workdir, tmp_path / "run")
    shutil.copytree(whole.root, tmp_path / "data")
    config = whole.config.copy_and_resolve_references()
    config.data.root = str(tmp_path / "data")
    return Run(tmp_path / "run", tmp_path / "data", config)


def _files(folder):
    """What lies in a folder, except the lock, which says who tried last."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def test_a_longer_run_with_another_rate_goes_on(run, capsys):
    run.config.train.epochs = 2
    run.config.optim.lr = 0.5
    run.config.eval.batch_size = 1
    train(run.config, run.workdir)
    said = capsys.readouterr().err
    assert "Going on from checkpoint 4" in said
    assert "config.optim.lr: 0.001 there, 0.5 here" in said
    assert "the run is now 8 steps long; from step 4 on the learning rate follows the schedule 'poly'" in said
    rows = [row for row in read_rows(run.workdir / "metrics.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, 9))
    np.testing.assert_allclose(rows[4]["lr"], 0.5 * 0.5**0.9, rtol=1e-5)
    assert rows[3]["lr"] < 1e-3  # as it was
    (entry,) = json.loads((run.workdir / "config.json").read_text())["history"]
    assert entry["changed"].pop("data.root")[1] == str(run.root)
    assert entry["changed"] == {"eval.batch_size": [8, 1], "optim.lr": [0.001, 0.5], "train.epochs": [1, 2]}
    starts = json.loads((run.workdir / "environment.json").read_text())
    assert [start["step"] for start in starts] == [0, 4]


def test_a_run_goes_on_with_factors_of_the_learning_rate(run):
    """A checkpoint without them is a checkpoint with them."""
    before = jaxseg.load(run.workdir, "latest").variables["params"]
    run.config.train.epochs = 2
    run.config.optim.lr_factors = {"head": 1e-9}
    train(run.config, run.workdir)
    after = jaxseg.load(run.workdir, "latest").variables["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-8), after["head"], before["head"])
    moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), after["decoder"], before["decoder"])
    assert max(jax.tree.leaves(moved)) > 1e-4


def test_a_run_with_factors_that_is_taken_up_again_has_the_same_bits(run, tmp_path):
    run.config.train.epochs = 2
    run.config.checkpoint.keep = 4
    run.config.optim.lr_factors = {"head": 10.0, "*/bias": 2.0}
    train(run.config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "8")
    train(run.config, tmp_path / "again")
    states = [jaxseg.load(tmp_path / name, "latest").variables["params"] for name in ("whole", "again")]
    jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.parametrize("accept", [False, True])
def test_half_of_the_images_gone_is_a_sentence(run, accept):
    before = _files(run.workdir)
    for i in range(4):
        for part in ("images", "labels"):
            (run.root / "train" / part / f"{i}.png").unlink()
    words = "past its end: config.train.epochs=1 makes 2 steps" if accept else "'train': 8 images there, 4 here"
    with pytest.raises(UserError, match=words):
        train(run.config, run.workdir, accept_data=accept)
    assert _files(run.workdir) == before


def test_replaced_images_are_noticed(run):
    path = run.root / "val" / "images" / "1.png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    with pytest.raises(UserError, match="split 'val': as many images, 2, but files of other sizes"):
        train(run.config, run.workdir)


def test_reversed_classes_are_noticed_and_the_workdir_stays_readable(run):
    before = _files(run.workdir)
    (run.root / "classes.json").write_text('{"classes": ["bright", "dark"]}')
    with pytest.raises(UserError, match="classes: the same in another order, dark, bright there; bright, dark here"):
        train(run.config, run.workdir)
    (run.root / "classes.json").write_text('{"classes": ["dark", "bright", "gray"]}')
    with pytest.raises(UserError, match="classes: 2 there, 3 here"):
        train(run.config, run.workdir, accept_data=True)
    assert _files(run.workdir) == before
    assert jaxseg.load(run.workdir).classes == ("dark", "bright")


def test_without_its_checkpoints_a_run_begins_anew_and_keeps_its_history(run, capsys):
    old = (run.workdir / "metrics.jsonl").read_text()
    shutil.rmtree(run.workdir / "checkpoints")
    train(run.config, run.workdir)
    assert (run.workdir / "metrics.1.jsonl").read_text() == old
    said = capsys.readouterr().err
    assert "is of a run up to step 4, which has no checkpoint to go on from. It is kept as metrics.1.jsonl" in said
    assert Checkpoints(run.workdir).latest() == 4


def test_a_run_at_its_end_goes_on_elsewhere_and_says_so(run, capsys):
    path = run.workdir / "environment.json"
    (start,) = json.loads(path.read_text())
    start["versions"]["jax"], start["backend"] = "0.4.1", "tpu"
    path.write_text(json.dumps(start))  # as an older jaxseg wrote it
    (run.workdir / "config.json").unlink()
    train(run.config, run.workdir)
    said = capsys.readouterr().err
    assert "config.json is missing" in said
    assert "since this run's last start: jax 0.4.1 -> " in said and "backend tpu -> cpu" in said
    assert len(json.loads(path.read_text())) == 2
    assert json.loads((run.workdir / "config.json").read_text())["optim"]["lr"] == 0.001


def test_weights_that_do_not_fit_leave_no_claim(run, tmp_path):
    model = jaxseg.create_model("fpn", "plain", num_classes=2, encoder_options={"widths": (4, 4, 4, 4)})
    save_bundle(tmp_path / "bundle", model, jaxseg.init(model, jax.random.key(0)))
    run.config.model.weights = str(tmp_path / "bundle")
    with pytest.raises(UserError, match="is another model than the config's: its name is fpn, the config's is unet"):
        train(run.config, tmp_path / "new")
    assert not list((tmp_path / "new").glob("*.json"))


def test_who_looks_at_a_run_changes_nothing(run):
    """Not the checkpoint, either, that is being written meanwhile."""
    (run.workdir / "checkpoints" / "6.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (run.workdir / "checkpoints" / "6.orbax-checkpoint-tmp" / "state" / "half").write_text("half")
    before = _files(run.workdir)
    jaxseg.load(run.workdir)
    jaxseg.load(run.workdir, "latest")
    from jaxseg.evaluation import find_dataset

    find_dataset(jaxseg.load(run.workdir))
    assert _files(run.workdir) == before
