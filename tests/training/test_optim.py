"""The optimiser: schedule, what decays, the encoder's rate, freezing, accumulation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.training.optim import make_optimizer, make_schedule, pack_vectors, unpack_vectors

PARAMS = {
    "encoder": {"conv": {"kernel": jnp.ones((3, 3, 2, 2)), "bias": jnp.ones(2)}},
    "head": {"kernel": jnp.full((1, 1, 2, 2), 2.0), "bias": jnp.ones(2)},
}


def _optim(**values):
    c = default_config().optim
    c.update(**values)
    return c


def _update(c, params, grads, steps=1, schedule=None):
    tx = make_optimizer(c, schedule or make_schedule(c, 100), params)
    state = tx.init(params)
    for grad in grads if isinstance(grads, list) else [grads] * steps:
        updates, state = tx.update(grad, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def test_poly_schedule_is_the_papers():
    schedule = make_schedule(_optim(lr=0.5, power=0.9), 40)
    for step in (0, 1, 20, 39):
        np.testing.assert_allclose(schedule(step), 0.5 * (1 - step / 40) ** 0.9, rtol=1e-6)


def test_cosine_schedule_and_warmup():
    schedule = make_schedule(_optim(lr=1.0, schedule="cosine", warmup_steps=10), 110)
    np.testing.assert_allclose([schedule(0), schedule(5), schedule(10)], [0.0, 0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(schedule(60), 0.5, rtol=1e-6)
    np.testing.assert_allclose(schedule(110), 0.0, atol=1e-7)


def test_warmup_longer_than_the_run_is_refused():
    with pytest.raises(UserError, match="warmup_steps=100 leaves nothing"):
        make_schedule(_optim(warmup_steps=100), 100)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_only_kernels_decay(name):
    c = _optim(name=name, lr=0.1, weight_decay=0.5, schedule="constant")
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    new = _update(c, PARAMS, zero)
    np.testing.assert_allclose(new["head"]["kernel"], 2.0 * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_array_equal(new["head"]["bias"], 1.0)
    np.testing.assert_array_equal(new["encoder"]["conv"]["bias"], 1.0)


def test_sgd_is_torchs():
    """v = momentum * v + (g + decay * p); p -= lr * v."""
    c = _optim(name="sgd", lr=0.1, weight_decay=0.01, momentum=0.9, schedule="constant")
    grads = [jax.tree.map(lambda p, s=s: jnp.full_like(p, s), PARAMS) for s in (1.0, -2.0, 0.5)]
    new = _update(c, PARAMS, grads)
    p, v = 2.0, 0.0
    for g in (1.0, -2.0, 0.5):
        v = 0.9 * v + (g + 0.01 * p)
        p -= 0.1 * v
    np.testing.assert_allclose(new["head"]["kernel"], p, rtol=1e-6)


def test_encoder_learns_slower_by_the_factor():
    c = _optim(lr=0.1, weight_decay=0.0, encoder_lr_factor=0.1, schedule="constant")
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    new = _update(c, PARAMS, grads)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), new, PARAMS)
    np.testing.assert_allclose(moved["encoder"]["conv"]["kernel"], 0.01, rtol=1e-5)
    np.testing.assert_allclose(moved["head"]["kernel"], 0.1, rtol=1e-5)


def test_frozen_parameters_stay_and_do_not_count_in_the_clipped_norm():
    c = _optim(
        name="sgd", momentum=0.0, lr=1.0, weight_decay=0.5, schedule="constant", freeze=("encoder",), clip_norm=1.0
    )
    grads = {
        "encoder": jax.tree.map(lambda p: jnp.full_like(p, 100.0), PARAMS["encoder"]),
        "head": {"kernel": jnp.zeros((1, 1, 2, 2)), "bias": jnp.array([0.6, 0.0])},
    }
    new = _update(c, PARAMS, grads)
    np.testing.assert_array_equal(new["encoder"]["conv"]["kernel"], 1.0)
    np.testing.assert_allclose(new["head"]["bias"], [0.4, 1.0], rtol=1e-6)


def test_freezing_what_does_not_exist_names_the_parts():
    with pytest.raises(UserError, match=r"names 'backbone'.*encoder, head"):
        make_optimizer(_optim(freeze=("backbone",)), lambda s: 0.1, PARAMS)


def test_accumulation_averages_batches():
    c = _optim(name="sgd", momentum=0.0, lr=0.1, weight_decay=0.0, schedule="constant", accumulate=2)
    grads = [jax.tree.map(lambda p, s=s: jnp.full_like(p, s), PARAMS) for s in (1.0, 3.0)]
    first = _update(c, PARAMS, grads[:1])
    np.testing.assert_array_equal(first["head"]["kernel"], 2.0)
    both = _update(c, PARAMS, grads)
    np.testing.assert_allclose(both["head"]["kernel"], 2.0 - 0.1 * 2.0, rtol=1e-6)


@pytest.mark.parametrize("key,value", [("name", "adam"), ("schedule", "polynomial")])
def test_unknown_names_are_explained(key, value):
    c = _optim(**{key: value})
    with pytest.raises(UserError, match=f"Unknown .* '{value}'. .*Known: "):
        make_optimizer(c, make_schedule(c, 10), PARAMS)


def test_joined_vectors_come_back_to_their_places():
    rng = np.random.default_rng(0)
    shapes = {
        "encoder": {"a": {"scale": (3,), "kernel": (2, 3)}, "b": {"bias": (4,), "gain": ()}},
        "head": {"bias": (2,)},
    }
    tree = jax.tree.map(
        lambda shape: np.float32(rng.normal(size=shape)), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )
    packed = pack_vectors(tree)
    assert {name: x.shape for name, x in packed.items()} == {
        "encoder/a/kernel": (2, 3),
        "encoder/vectors": (8,),
        "head/vectors": (2,),
    }
    jax.tree.map(np.testing.assert_array_equal, unpack_vectors(packed, tree), tree)


def test_adamw_with_joined_vectors_is_optaxs():
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), PARAMS)
    c = _optim(lr=0.01, weight_decay=0.1, clip_norm=1.0, warmup_steps=0)
    schedule = make_schedule(c, 100)
    kernels = jax.tree.map(lambda p: p.ndim > 1, PARAMS)
    theirs = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, c.beta1, c.beta2, weight_decay=0.1, mask=kernels)
    )
    params, state = PARAMS, theirs.init(PARAMS)
    for _ in range(3):
        updates, state = theirs.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    ours = _update(c, PARAMS, grads, steps=3, schedule=schedule)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, params)
