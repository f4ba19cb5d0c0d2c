"""The optimizer: schedule, decay, clipping, the encoder's rate, accumulation; its state mirrors the parameters."""

import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.experiment.build import make_optimizer, make_schedule
from jaxseg.experiment.limits import check_config
from jaxseg.experiment.state import create_state

PARAMS = {
    "encoder": {"conv": {"kernel": jnp.ones((3, 3, 2, 2)), "bias": jnp.ones(2)}},
    "head": {"kernel": jnp.full((1, 1, 2, 2), 2.0), "bias": jnp.ones(2)},
}


def _config(**optim):
    c = default_config()
    c.optim.update(**optim)
    return c


def _update(c, params, grads, steps=1):
    tx = make_optimizer(c, make_schedule(c, 100))
    state = tx.init(params)
    for grad in grads if isinstance(grads, list) else [grads] * steps:
        updates, state = tx.update(grad, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


@pytest.mark.parametrize("power", [0.9, 2.0])
def test_poly_schedule_is_the_papers(power):
    schedule = make_schedule(_config(lr=0.5, power=power), 40)
    for step in (0, 1, 20, 39):
        np.testing.assert_allclose(schedule(step), 0.5 * (1 - step / 40) ** power, rtol=1e-5)


@pytest.mark.parametrize("power", [-0.9, math.nan])
def test_a_learning_rate_never_rises_or_vanishes_by_its_power(power):
    c = _config(power=power)
    c.train.steps = 10
    with pytest.raises(UserError, match=f"power must be a finite number of at least 0, got {power}"):
        check_config(c)


def test_with_accumulation_the_schedule_still_ends_with_the_run():
    """40 batches are 10 updates: the schedule counts updates."""
    schedule = make_schedule(_config(lr=0.5, power=1.0, accumulate=4, warmup_steps=2), 40)
    rates = [schedule(update) for update in (0, 1, 2, 6, 10)]
    np.testing.assert_allclose(rates, [0.25, 0.375, 0.5, 0.25, 0], atol=1e-7)


def test_cosine_schedule_and_warmup():
    schedule = make_schedule(_config(lr=1.0, schedule="cosine", warmup_steps=10), 110)
    np.testing.assert_allclose([schedule(0), schedule(5), schedule(10)], [0.1, 0.55, 1.0], rtol=1e-6)
    np.testing.assert_allclose(schedule(60), 0.5, rtol=1e-6)
    np.testing.assert_allclose(schedule(110), 0.0, atol=1e-7)


@pytest.mark.parametrize("warmup", [0, 10])
def test_steps_schedule_is_torchs_multi_step(warmup):
    """Shares of the whole run, the warm-up included, as iterations are counted elsewhere."""
    c = _config(lr=0.2, schedule="steps", drops=(0.5, 0.75), drop_factor=0.5, warmup_steps=warmup)
    schedule = make_schedule(c, 80)
    rates = [schedule(step) for step in (warmup, 39, 40, 59, 60, 79)]
    np.testing.assert_allclose(rates, [0.2, 0.2, 0.1, 0.1, 0.05, 0.05], rtol=1e-6)


def test_drops_of_a_short_run_are_all_made():
    """Shares that come to the same update; also to the first one, where no warm-up forbids it."""
    schedule = make_schedule(_config(lr=1.0, schedule="steps", drops=(0.04, 0.55, 0.6, 0.8)), 5)
    np.testing.assert_allclose([schedule(step) for step in range(5)], [1e-1, 1e-1, 1e-1, 1e-3, 1e-4], rtol=1e-5)


@pytest.mark.parametrize("drops", [(0.8, 0.6), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5), (40000, 55000), (0.5, math.nan)])
def test_drops_that_are_no_rising_shares_are_refused(drops):
    c = _config(schedule="steps", drops=drops)
    c.train.steps = 10
    with pytest.raises(UserError, match="must be shares of the run between 0 and 1"):
        check_config(c)


@pytest.mark.parametrize("factor", [0.0, 1.0, -0.5, math.nan])
def test_what_a_drop_multiplies_by_is_within_0_and_1(factor):
    c = _config(drop_factor=factor)
    c.train.steps = 10
    with pytest.raises(UserError, match=f"more than 0 and less than 1, got {factor}"):
        check_config(c)


def test_a_drop_within_the_warmup_is_refused():
    with pytest.raises(UserError, match="drop before the warm-up"):
        make_schedule(_config(schedule="steps", drops=(0.1, 0.5), warmup_steps=20), 100)


def test_warmup_longer_than_the_run_is_refused():
    with pytest.raises(UserError, match="warmup_steps=100 leaves nothing"):
        make_schedule(_config(warmup_steps=100), 100)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_only_kernels_decay(name):
    c = _config(name=name, lr=0.1, weight_decay=0.5, schedule="constant")
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    new = _update(c, PARAMS, zero)
    np.testing.assert_allclose(new["head"]["kernel"], 2.0 * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_array_equal(new["head"]["bias"], 1.0)
    np.testing.assert_array_equal(new["encoder"]["conv"]["bias"], 1.0)


@pytest.mark.parametrize("momentum, nesterov", [(0.9, False), (0.5, True)])
def test_sgd_is_torchs(momentum, nesterov):
    """v = momentum * v + d, d = g + decay * p; p -= lr * v, or lr * (d + momentum * v) for Nesterov's."""
    c = _config(name="sgd", lr=0.1, weight_decay=0.01, momentum=momentum, nesterov=nesterov, schedule="constant")
    grads = [jax.tree.map(lambda p, s=s: jnp.full_like(p, s), PARAMS) for s in (1.0, -2.0, 0.5)]
    new = _update(c, PARAMS, grads)
    p, v = 2.0, 0.0
    for g in (1.0, -2.0, 0.5):
        d = g + 0.01 * p
        v = momentum * v + d
        p -= 0.1 * (d + momentum * v if nesterov else v)
    np.testing.assert_allclose(new["head"]["kernel"], p, rtol=1e-6)


def test_gradients_are_clipped_to_the_largest_norm():
    """A gradient of norm 5 moves the parameters by 1, in its own direction; one of norm 0.5 stays."""
    c = _config(name="sgd", momentum=0.0, lr=1.0, weight_decay=0.0, schedule="constant", clip_norm=1.0)
    for scale, moved in ((1.0, (0.6, 0.8)), (0.1, (0.3, 0.4))):
        grads = jax.tree.map(jnp.zeros_like, PARAMS)
        grads["encoder"]["conv"]["bias"] = scale * jnp.array([3.0, 0.0])
        grads["head"]["bias"] = scale * jnp.array([0.0, 4.0])
        new = _update(c, PARAMS, grads)
        np.testing.assert_allclose(1 - new["encoder"]["conv"]["bias"], [moved[0], 0], atol=1e-6)
        np.testing.assert_allclose(1 - new["head"]["bias"], [0, moved[1]], atol=1e-6)


def test_encoder_learns_slower_by_the_factor():
    c = _config(lr=0.1, weight_decay=0.0, encoder_lr_factor=0.1, schedule="constant")
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    new = _update(c, PARAMS, grads)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), new, PARAMS)
    np.testing.assert_allclose(moved["encoder"]["conv"]["kernel"], 0.01, rtol=1e-5)
    np.testing.assert_allclose(moved["head"]["kernel"], 0.1, rtol=1e-5)


def test_factors_by_path_are_multiplied():
    """Caffe's: the last layer ten times as fast, every bias twice; together with the encoder's factor."""
    c = _config(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, encoder_lr_factor=0.5, schedule="constant")
    c.optim.lr_factors = {"head": 10.0, "*/bias": 2.0}
    new = _update(c, PARAMS, jax.tree.map(jnp.ones_like, PARAMS))
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), PARAMS, new)
    expected = {"encoder": {"conv": {"kernel": 0.05, "bias": 0.1}}, "head": {"kernel": 1.0, "bias": 2.0}}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), moved, expected)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_factors_scale_what_the_decay_takes_as_well_and_no_more_decays(name):
    c = _config(name=name, lr=0.1, weight_decay=0.5, schedule="constant")
    c.optim.lr_factors = {"head": 2.0}
    new = _update(c, PARAMS, jax.tree.map(jnp.zeros_like, PARAMS))
    np.testing.assert_allclose(new["head"]["kernel"], 2.0 * (1 - 2 * 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_allclose(new["encoder"]["conv"]["kernel"], 1 - 0.1 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(new["head"]["bias"], 1.0)


@pytest.mark.parametrize("encoder_lr_factor", [1.0, 0.1])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_factors_by_path_leave_the_state_as_it_is(encoder_lr_factor, accumulate):
    """So a checkpoint of a run without them fits, and they may change, come and go."""
    c = _config(encoder_lr_factor=encoder_lr_factor, accumulate=accumulate, clip_norm=1.0)
    without = make_optimizer(c, lambda _: 0.1).init(PARAMS)
    c.optim.lr_factors = {"head": 10.0}
    chex.assert_trees_all_equal(make_optimizer(c, lambda _: 0.1).init(PARAMS), without)


def test_no_factor_is_no_operation():
    """The program of a run that has none is what it was before there were any."""
    c = _config(name="sgd", encoder_lr_factor=0.1)

    def program(**factors):
        c.optim.lr_factors = factors
        tx = make_optimizer(c, lambda _: 0.1)
        return str(jax.make_jaxpr(tx.update)(PARAMS, tx.init(PARAMS), PARAMS))

    parts = [
        optax.add_decayed_weights(1e-4, jax.tree.map(lambda p: p.ndim > 1, PARAMS)),
        optax.trace(0.9),
        optax.scale_by_learning_rate(lambda _: 0.1),
        optax.masked(optax.scale(0.1), {"encoder": True, "head": False}),
    ]
    before = optax.chain(*parts)
    assert program() == str(jax.make_jaxpr(before.update)(PARAMS, before.init(PARAMS), PARAMS))
    assert program() != program(head=10.0)


@pytest.mark.parametrize(
    "path, words",
    [
        ("hed", "names 'hed', but no trained parameter has that path. Did you mean 'head'? The trained parts: encoder"),
        ("encoder/conf", "Did you mean 'encoder/conv'?"),
        ("*/scale", "The trained parts: encoder, head."),
    ],
)
def test_a_path_that_names_nothing_is_explained(path, words):
    c = _config()
    c.optim.lr_factors = {"head": 10.0, path: 2.0}
    tx = make_optimizer(c, make_schedule(c, 10))
    with pytest.raises(UserError, match=re.escape(words)):
        tx.init(PARAMS)


def test_a_path_of_frozen_parameters_alone_names_nothing():
    c = _config()
    c.optim.lr_factors = {"encoder/conv": 2.0}
    tx = make_optimizer(c, make_schedule(c, 10))
    with pytest.raises(UserError, match="no trained parameter .* parts: head."):
        create_state({"params": PARAMS}, tx, freeze=("encoder",))


@pytest.mark.parametrize("factor", [0.0, -1.0, "ten", float("nan"), True])
def test_factors_that_are_none_are_refused(factor):
    c = _config()
    c.train.steps = 10
    c.optim.lr_factors = {"head": factor}
    with pytest.raises(UserError, match="lr_factors.head must be a number above 0.*config.optim.freeze"):
        check_config(c)


def test_a_path_with_dots_is_told_how_paths_are_written():
    c = _config()
    c.train.steps = 10
    c.optim.lr_factors = {"encoder": {"conv": {"bias": 2.0}}}  # as --config.optim.lr_factors.encoder.conv.bias=2 has it
    with pytest.raises(UserError, match=r"Parts of a path have slashes between them: encoder/conv/bias\.$"):
        check_config(c)


@pytest.mark.parametrize("path", ["encoder", "encoder/"])
def test_two_factors_of_the_encoder_are_refused(path):
    c = _config(encoder_lr_factor=0.1)
    c.train.steps = 10
    c.optim.lr_factors = {path: 0.1}
    with pytest.raises(UserError, match="encoder_lr_factor=0.1 is the factor of 'encoder'"):
        check_config(c)
    c.optim.lr_factors = {"encoder/conv": 0.1}
    check_config(c)


def test_accumulation_averages_batches():
    c = _config(name="sgd", momentum=0.0, lr=0.1, weight_decay=0.0, schedule="constant", accumulate=2)
    grads = [jax.tree.map(lambda p, s=s: jnp.full_like(p, s), PARAMS) for s in (1.0, 3.0)]
    first = _update(c, PARAMS, grads[:1])
    np.testing.assert_array_equal(first["head"]["kernel"], 2.0)
    both = _update(c, PARAMS, grads)
    np.testing.assert_allclose(both["head"]["kernel"], 2.0 - 0.1 * 2.0, rtol=1e-6)


@pytest.mark.parametrize("key,value", [("name", "adam"), ("schedule", "polynomial")])
def test_unknown_names_are_explained(key, value):
    c = _config(**{key: value})
    with pytest.raises(UserError, match=f"Unknown .* '{value}'. .*Known: "):
        make_optimizer(c, make_schedule(c, 10))


def test_adamw_is_optaxs():
    """Also with betas that are not the defaults, and clipped: every gradient has another norm."""
    rng = np.random.default_rng(0)
    grads = [
        jax.tree.map(lambda p, s=s: jnp.asarray(rng.normal(size=p.shape) * s, jnp.float32), PARAMS)
        for s in (0.01, 1.0, 3.0)
    ]
    c = _config(lr=0.01, beta1=0.6, beta2=0.8, weight_decay=0.1, clip_norm=1.0)
    kernels = jax.tree.map(lambda p: p.ndim > 1, PARAMS)
    theirs = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(make_schedule(c, 100), 0.6, 0.8, weight_decay=0.1, mask=kernels)
    )
    params, state = PARAMS, theirs.init(PARAMS)
    for grad in grads:
        updates, state = theirs.update(grad, state, params)
        params = optax.apply_updates(params, updates)
    ours = _update(c, PARAMS, grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, params)


@pytest.mark.parametrize("name, accumulate, copies", [("adamw", 1, 2), ("sgd", 1, 1), ("adamw", 2, 3)])
def test_the_state_has_the_parameters_tree(name, accumulate, copies):
    """Whatever is done by a parameter's path (its sharding, its moments) finds it in the state."""
    tx = make_optimizer(_config(name=name, accumulate=accumulate, clip_norm=1.0, encoder_lr_factor=0.1), lambda _: 0.1)
    shapes = jax.tree.map(jnp.shape, PARAMS)
    leaves = jax.tree.leaves(
        jax.eval_shape(tx.init, PARAMS), is_leaf=lambda x: jax.tree.structure(x) == jax.tree.structure(PARAMS)
    )
    found = [jax.tree.map(jnp.shape, tree) for tree in leaves if isinstance(tree, dict)]
    assert found == [shapes] * copies
    assert all(tree.shape == () for tree in leaves if not isinstance(tree, dict))  # counts
