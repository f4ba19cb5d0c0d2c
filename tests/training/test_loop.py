"""The run: when it evaluates, what it logs, what it starts from."""

import dataclasses
import json
import shutil
import types

import chex
import jax
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.encoders import create_encoder
from jaxseg.experiment import build
from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.devices import make_mesh
from jaxseg.experiment.log import read_rows
from jaxseg.models import init
from jaxseg.pretrained.bundle import save_bundle
from jaxseg.training import loop, memory
from jaxseg.training.loop import train
from jaxseg.training.rows import mean_of
from jaxseg.training.start import initial_state

WIDTHS = (4, 6)


def _config(cache):
    c = default_config()
    c.data.update(name="shapes", canvas=(16, 16), crop=(16, 16), batch_size=2)
    c.data.options = {"size": 16, "train": 6, "val": 3}
    c.model.encoder = "plain"
    c.model.encoder_options = {"widths": WIDTHS, "convs": 1}
    c.model.options = {"decoder_channels": (6, 4)}
    c.optim.update(lr=0.02, power=1.0, accumulate=2)
    c.train.update(steps=6, compilation_cache=str(cache))
    c.log.update(every=1, tensorboard=False, images=0, grad_norm=True)
    c.checkpoint.update(every=2, keep=1)
    c.eval.update(every=4, batch_size=3)
    return c


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return _config(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    """The folder of a whole run."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    train(config, workdir)
    return workdir


def _evaluations(workdir):
    rows = [row for row in read_rows(workdir / "metrics.jsonl") if row["kind"] == "eval"]
    return [{key: value for key, value in row.items() if key not in ("time", "seconds")} for row in rows]


def test_the_last_step_is_evaluated_too(workdir):
    """6 steps, one evaluation every 4."""
    assert [row["step"] for row in _evaluations(workdir)] == [4, 6]
    scores = {row["step"]: row["miou"] for row in _evaluations(workdir)}
    assert Checkpoints(workdir).scores == scores
    assert scores[6] is not None


def test_the_learning_rate_falls_to_its_end_with_accumulation(workdir):
    """6 batches are 3 updates."""
    rows = [row for row in read_rows(workdir / "metrics.jsonl") if row["kind"] == "train"]
    np.testing.assert_allclose([row["lr"] for row in rows], 0.02 / 3 * np.array([3, 3, 2, 2, 1, 1]), rtol=1e-6)
    assert all(row["grad_norm"] > 0 for row in rows)


def test_an_evaluation_that_a_kill_prevented_comes_later(config, workdir, tmp_path):
    """A state is saved before it is evaluated."""
    killed = tmp_path / "killed"
    shutil.copytree(workdir, killed)
    rows = read_rows(killed / "metrics.jsonl")
    kept = [row for row in rows if (row["kind"], row["step"]) != ("eval", 6)]
    assert len(kept) == len(rows) - 1
    (killed / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    train(config, killed)
    assert _evaluations(killed) == _evaluations(workdir)


def test_a_run_starts_from_the_encoders_weights_and_statistics(config, tmp_path):
    encoder = create_encoder("plain", widths=WIDTHS, convs=1)
    variables = init(encoder, jax.random.key(9), image_size=(16, 16))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.uniform(0.5, 2.0, x.shape).astype(np.float32), variables)
    save_bundle(tmp_path / "encoder", encoder, variables)
    c = config.copy_and_resolve_references()
    c.model.encoder_weights = str(tmp_path / "encoder")
    experiment = build.build(c, splits=())
    state, _ = initial_state(experiment, make_mesh(1), build.make_schedule(c, 5), False)
    assert jax.tree.leaves(variables["batch_stats"])
    chex.assert_trees_all_equal(state.params["encoder"], variables["params"])
    chex.assert_trees_all_equal(state.batch_stats["encoder"], variables["batch_stats"])


def test_a_batch_that_a_norm_cannot_take_is_told_before_anything_is_written(config, tmp_path):
    """One image, of which DeepLabV3's image branch sees the mean alone."""
    c = config.copy_and_resolve_references()
    c.model.update(name="deeplabv3", encoder="plain")
    c.model.options = {}
    c.data.batch_size = 1
    with pytest.raises(UserError, match="sees one value per channel, of a map .1, 1, 1.*Use a larger batch"):
        train(c, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_of_an_output_that_the_model_lacks_is_told_before_anything_is_written(config, tmp_path):
    c = config.copy_and_resolve_references()
    c.loss.heads = {"logits": 1.0, "auxiliary": 0.4}
    with pytest.raises(UserError, match="names auxiliary, but .* logits alone.*loss.heads='{'logits': 1.0}'"):
        train(c, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_row_is_the_mean_of_its_steps_and_finite(tmp_path):
    """Also where config.log.grad_norm is off, so that a step reports the loss alone."""
    pending = [{"loss": np.float32(loss)} for loss in (1.0, 3.0)]
    assert mean_of(pending, 7, Checkpoints(tmp_path, writable=True)) == {"loss": 2.0}
    pending = [{"loss": np.float32(1.0), "grad_norm": np.float32(norm)} for norm in (1.0, np.inf)]
    with pytest.raises(UserError, match="Training stopped at step 7: grad_norm is inf"):
        mean_of(pending, 7, Checkpoints(tmp_path, writable=True))


class _BreaksAt:
    """A source of records of which one can't be read from the n-th time on."""

    def __init__(self, source, reads):
        self.source, self.reads = source, reads

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        self.reads -= 1
        if self.reads < 0:
            raise UserError("train/3.png is damaged.")
        return self.source[index]


def test_the_state_is_saved_before_an_image_that_can_not_be_read_ends_the_run(config, workdir, tmp_path, monkeypatch):
    c = config.copy_and_resolve_references()
    c.checkpoint.every, c.data.threads = 0, 1
    real, broken = loop.make_batches, []

    def batches(experiment):
        splits = {**experiment.dataset.splits}
        if not broken:
            splits["train"] = _BreaksAt(splits["train"], reads=6)  # three steps of two images
            broken.append(True)
        return real(dataclasses.replace(experiment, dataset=dataclasses.replace(experiment.dataset, splits=splits)))

    monkeypatch.setattr(loop, "make_batches", batches)
    with pytest.raises(UserError, match="train/3.png is damaged.\n.* saved, as checkpoint 3: mend that, and run"):
        train(c, tmp_path / "run")
    assert Checkpoints(tmp_path / "run").latest() == 3
    train(c, tmp_path / "run")
    assert _evaluations(tmp_path / "run") == _evaluations(workdir)


def test_of_several_processes_none_saves_alone_and_it_is_said_where_they_go_on(workdir, tmp_path, monkeypatch):
    """The others are in the next step already: a save, which all must take part in, would wait for them forever."""
    shutil.copytree(workdir, tmp_path / "run")
    checkpoints = Checkpoints(tmp_path / "run", writable=True)
    run = types.SimpleNamespace(checkpoints=checkpoints)
    before = checkpoints.steps()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="3.png is damaged.\n.*, step 6, is intact; start all processes again to go on"):
        with loop._saved_first(run, None, 7, None, None, started=True):
            raise UserError("train/3.png is damaged.")
    monkeypatch.undo()
    assert checkpoints.steps() == before
    checkpoints.close()


def test_memory_that_does_not_suffice_is_told_before_the_first_step(config, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_machine", lambda: 1000)
    with pytest.raises(UserError, match="A step needs about .* Lower config.data.batch_size=2"):
        train(config, tmp_path / "run")
