"""One training step of a tiny model: what it changes, and what it must not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.config import default_config
from jaxseg.experiment.build import build_model
from jaxseg.experiment.devices import make_mesh
from jaxseg.experiment.state import create_state
from jaxseg.models import init
from jaxseg.training.optim import make_optimizer, make_schedule
from jaxseg.training.step import make_train_step

CLASSES = 3


def _config(**optim):
    c = default_config()
    c.data.update(canvas=(16, 16), crop=(16, 16), batch_size=2)
    c.model.update(encoder="plain")
    c.model.encoder_options = {"widths": (4, 6), "convs": 1}
    c.model.options = {"decoder_channels": (6, 4)}
    c.optim.update(lr=0.01, **optim)
    return c


def _batch(ignored_rows=0):
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, (2, 16, 16)).astype(np.uint8)
    label[:, :ignored_rows] = 255
    return {"image": rng.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8), "label": label}


@pytest.fixture(scope="module")
def make():
    """make(config) -> (state, step): the variables are the same for every config."""

    def make(c):
        model = build_model(c, CLASSES)
        variables = init(model, jax.random.key(3), image_size=(16, 16))
        tx = make_optimizer(c.optim, make_schedule(c.optim, 100), variables["params"])
        step = make_train_step(model, tx, c, make_mesh(1), ignore=255, mean=(127.5,) * 3, std=(64.0,) * 3)
        return create_state(variables, tx, ema=c.optim.ema > 0), step

    return make


def _copy(tree):
    return jax.tree.map(lambda x: np.array(x), tree)


def test_a_step_moves_everything_and_repeats_itself(make):
    state, step = make(_config(ema=0.75))
    before = _copy(state)
    first, metrics = step(jax.tree.map(jnp.array, before), _batch())
    again, _ = step(jax.tree.map(jnp.array, before), _batch())
    jax.tree.map(np.testing.assert_array_equal, _copy(first), _copy(again))
    assert int(first.step) == 1
    assert np.isfinite(metrics["loss"])
    assert metrics["grad_norm"] > 0
    for part in ("params", "batch_stats"):
        changed = jax.tree.map(lambda a, b: bool((a != b).any()), getattr(before, part), _copy(getattr(first, part)))
        assert all(jax.tree.leaves(changed)), part
    new = {"params": _copy(first.params), "batch_stats": _copy(first.batch_stats)}
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, before.ema, new)  # of the first of few steps
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), _copy(first.ema), expected)


def test_the_randomness_and_the_weights_of_a_step_are_its_own(make):
    c = _config()
    c.loss.terms = {"cross_entropy": {"start": 1.0, "end": 0.0, "end_step": 4}}
    state, step = make(c)
    before = _copy(state)
    parts = []
    for done, weight in ((0, 1.0), (1, 0.75), (9, 0.0)):
        _, metrics = step(jax.tree.map(jnp.array, before.replace(step=np.int32(done))), _batch())
        parts.append(float(metrics["loss/logits/cross_entropy"]))
        np.testing.assert_allclose(metrics["loss"], weight * parts[-1], rtol=1e-6)
    assert len(set(parts)) == 3


def test_frozen_encoder_keeps_parameters_and_statistics(make):
    state, step = make(_config(freeze=("encoder",)))
    before = _copy(state)
    after = _copy(step(state, _batch())[0])
    for part in ("params", "batch_stats"):
        old, new = getattr(before, part), getattr(after, part)
        jax.tree.map(np.testing.assert_array_equal, old["encoder"], new["encoder"])
        changed = jax.tree.map(lambda a, b: bool((a != b).any()), old["decoder"], new["decoder"])
        assert any(jax.tree.leaves(changed)), part


def test_nothing_to_learn_from_ignored_pixels(make):
    state, step = make(_config(weight_decay=0.0))
    before = _copy(state.params)
    after, metrics = step(state, _batch(ignored_rows=16))
    assert float(metrics["loss"]) == 0.0
    assert float(metrics["grad_norm"]) == 0.0
    jax.tree.map(np.testing.assert_array_equal, before, _copy(after.params))
