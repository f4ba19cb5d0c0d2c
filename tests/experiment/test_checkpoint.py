"""Checkpoints: what is kept, what comes back, what is said when a name is wrong."""

import errno
import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.checks import UserError
from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.state import create_state, eval_variables


def _state(value, *, ema=False):
    variables = {"params": {"head": {"kernel": jnp.full((2, 3), value)}}, "batch_stats": {"mean": jnp.full(2, value)}}
    return create_state(variables, optax.adam(1e-3), ema=ema)


def _save_all(workdir, keep, scores):
    checkpoints = Checkpoints(workdir, keep=keep, writable=True)
    for step, miou in enumerate(scores, 1):
        checkpoints.save(step, _state(float(step)), {"iterator": {"next": step}})
        if miou is not None:
            checkpoints.score(step, miou)
    checkpoints.wait()
    return checkpoints


def test_keeps_the_latest_and_the_best(tmp_path):
    checkpoints = _save_all(tmp_path, 2, [0.1, 0.7, 0.5, None, 0.6, None])
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    assert kept == [2, 5, 6]
    assert (checkpoints.best(), checkpoints.latest()) == (2, 6)
    assert [checkpoints.resolve(name) for name in ("best", "latest", "5")] == [2, 6, 5]
    with pytest.raises(UserError, match="No checkpoint '4'.*Known: best, latest, 2, 5, 6"):
        checkpoints.resolve("4")


def test_restores_state_and_position(tmp_path):
    _save_all(tmp_path, 1, [None, None]).close()
    state, data = Checkpoints(tmp_path).restore(2, jax.eval_shape(lambda: _state(0.0)))
    chex.assert_trees_all_equal(state, _state(2.0))
    assert data == {"iterator": {"next": 2}}


def test_another_model_is_refused(tmp_path):
    _save_all(tmp_path, 1, [None]).close()
    variables = {"params": {"head": {"kernel": jnp.zeros((5, 3))}}, "batch_stats": {"mean": jnp.zeros(2)}}
    with pytest.raises(UserError, match="does not fit"):
        Checkpoints(tmp_path).restore(1, create_state(variables, optax.adam(1e-3), ema=False))


def test_variables_are_the_averaged_ones_where_kept(tmp_path):
    state = _state(1.0, ema=True).replace(params={"head": {"kernel": jnp.full((2, 3), 9.0)}})
    checkpoints = Checkpoints(tmp_path, writable=True)
    checkpoints.save(1, state, {})
    checkpoints.close()
    restored = Checkpoints(tmp_path).restore_variables(1)
    chex.assert_trees_all_equal(restored, eval_variables(state))
    assert restored["params"]["head"]["kernel"].max() == 1.0


def test_an_empty_workdir_says_so(tmp_path):
    with pytest.raises(UserError, match="No checkpoint in .*Train first"):
        Checkpoints(tmp_path).resolve("best")


def test_a_disk_without_room_is_noticed_before_writing(tmp_path):
    checkpoints = _save_all(tmp_path, 2, [None])
    huge = np.broadcast_to(np.float32(0), (1 << 50,))  # takes no memory, would take 4 PB of disk
    with pytest.raises(UserError, match="the disk has .* MB left.\\nThe last good checkpoint, step 1, is intact"):
        checkpoints.save(2, _state(0.0).replace(ema=huge), {})
    assert checkpoints.latest() == 1


def test_a_state_of_the_former_layout_says_what_to_do(tmp_path):
    """Adam's memory once had all vectors of a part of the model in one array; parameters never had."""
    state = _state(3.0)
    tx = optax.chain(optax.scale_by_adam(), optax.scale(-0.1))
    old = tx.init({"head/kernel": jnp.zeros((2, 3)), "head/vectors": jnp.zeros(5)})
    checkpoints = Checkpoints(tmp_path, writable=True)
    checkpoints.save(1, state.replace(opt_state=old), {})
    checkpoints.close()
    with pytest.raises(UserError, match=f"written by an older jaxseg.* --config.model.weights={tmp_path}"):
        Checkpoints(tmp_path).restore(1, state)
    restored = Checkpoints(tmp_path).restore_variables(1)
    chex.assert_trees_all_equal(restored, eval_variables(state))


def test_a_state_with_frozen_parameters_comes_back(tmp_path):
    """The optimizer has no memory of them, and the places without one come back too."""
    variables = {"params": {"encoder": {"kernel": jnp.ones((2, 3))}, "head": {"kernel": jnp.ones((3, 3))}}}
    state = create_state(variables, optax.adam(1e-3), freeze=("encoder",))
    checkpoints = Checkpoints(tmp_path, writable=True)
    checkpoints.save(1, state, {})
    checkpoints.close()
    restored, _ = Checkpoints(tmp_path).restore(1, state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    chex.assert_trees_all_equal(restored, state)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Your quota is used up"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "mount it anew"),
        (errno.EACCES, "Give yourself the right"),
        (errno.EIO, "reports a fault"),
        (errno.ESTALE, "was mounted anew"),
    ],
)
def test_what_a_file_system_refuses_is_said_with_its_remedy(tmp_path, monkeypatch, number, words):
    checkpoints = Checkpoints(tmp_path, writable=True)

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(tmp_path / "checkpoints" / "1"))

    monkeypatch.setattr(checkpoints._manager, "save", refuse)
    with pytest.raises(UserError, match=f"Could not save to (.|\n)*No checkpoint was written yet. .*{words}") as told:
        checkpoints.save(1, _state(1.0), {})
    assert os.strerror(number) in str(told.value)
    monkeypatch.undo()
    checkpoints.save(1, _state(1.0), {})
    checkpoints.wait()
    monkeypatch.setattr(checkpoints._manager, "save", refuse)
    with pytest.raises(UserError, match="The last good checkpoint, step 1, is intact"):
        checkpoints.save(2, _state(1.0), {})
    monkeypatch.undo()
    checkpoints.close()
