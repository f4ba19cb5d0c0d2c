"""One training step of a tiny model: what it changes, what it must not, and what it costs."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.experiment import build
from jaxseg.experiment.devices import make_mesh
from jaxseg.models import init
from jaxseg.training import create_state, make_train_step, replicate

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
    """make(config) -> (state, step) as a run has them: the variables are the same for every config."""

    def make(c):
        model = build.build_model(c, CLASSES)
        variables = init(model, jax.random.key(3), image_size=(16, 16))
        tx = build.make_optimizer(c, build.make_schedule(c, 100))
        freeze = tuple(c.optim.freeze)
        step = make_train_step(
            model,
            tx,
            build.make_loss(c),
            augment_fn=build.make_augment(c, ignore=255, mean=(127.5,) * 3, std=(64.0,) * 3),
            mesh=make_mesh(1),
            ema_decay=c.optim.ema or None,
            freeze=freeze,
            grad_norm=True,
        )
        return create_state(variables, tx, ema=c.optim.ema > 0, freeze=freeze), step

    return make


def _convolutions(compiled):
    return compiled.as_text().count(" convolution(")


def _copy(tree):
    return jax.tree.map(lambda x: np.array(x), tree)


@pytest.fixture(scope="module")
def whole(make):
    """(state, compiled step) of a model that learns as a whole."""
    state, step = make(_config(ema=0.75))
    return state, step.lower(state, _batch()).compile()


def test_a_step_moves_everything_and_repeats_itself(whole):
    state, step = whole
    before = _copy(state)
    first, metrics = step(jax.tree.map(jnp.array, before), _batch())
    again, _ = step(jax.tree.map(jnp.array, before), _batch())
    chex.assert_trees_all_equal(_copy(first), _copy(again))
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


def test_a_frozen_encoder_stays_and_costs_no_backward_pass(make, whole):
    state, step = make(_config(freeze=("encoder",)))
    before = _copy(state)
    compiled = step.lower(state, _batch()).compile()
    after, metrics = compiled(state, _batch())
    after = _copy(after)
    for part in ("params", "batch_stats"):
        old, new = getattr(before, part), getattr(after, part)
        chex.assert_trees_all_equal(old["encoder"], new["encoder"])
        changed = jax.tree.map(lambda a, b: bool((a != b).any()), old["decoder"], new["decoder"])
        assert any(jax.tree.leaves(changed)), part
    moments = after.opt_state[0].mu
    assert jax.tree.leaves(moments["encoder"]) == []
    assert jax.tree.map(jnp.shape, moments["decoder"]) == jax.tree.map(jnp.shape, after.params["decoder"])
    squares = [np.sum(np.square(10 * m)) for m in jax.tree.leaves(moments)]  # after one step, mu is 0.1 of the gradient
    np.testing.assert_allclose(metrics["grad_norm"], np.sqrt(sum(squares)), rtol=1e-5)
    # Its second convolution needs no gradient of kernel and input, its first none of its kernel, and the decoder's
    # first, which reads the encoder's features, none of its input.
    assert _convolutions(whole[1]) - _convolutions(compiled) == 4


def test_nothing_to_learn_from_ignored_pixels(make):
    state, step = make(_config(weight_decay=0.0))
    before = _copy(state.params)
    after, metrics = step(state, _batch(ignored_rows=16))
    assert float(metrics["loss"]) == 0.0
    assert float(metrics["grad_norm"]) == 0.0
    chex.assert_trees_all_equal(before, _copy(after.params))


def _linear(variables, images, key):
    """A model of one's own: logits are a product, and its statistics count its calls."""
    statistics = variables["batch_stats"]
    seen = {
        "encoder": {"calls": statistics["encoder"]["calls"] + 1},
        "head": {"calls": statistics["head"]["calls"] + 1},
    }
    features = images @ variables["params"]["encoder"]
    return {"logits": features @ variables["params"]["head"], "noise": jax.random.normal(key)}, seen


def _cross_entropy(outputs, labels, where, step):
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], labels).mean(where=where)
    return loss, {"noise": outputs["noise"], "step": step.astype(jnp.float32)}


def _own(tx, **options):
    variables = {
        "params": {"encoder": jnp.eye(3), "head": jnp.array([[0.1, -0.2], [0.3, 0.0], [0.0, 0.1]])},
        "batch_stats": {"encoder": {"calls": jnp.zeros(())}, "head": {"calls": jnp.zeros(())}},
    }
    freeze = options.get("freeze", ())
    return create_state(variables, tx, freeze=freeze), make_train_step(_linear, tx, _cross_entropy, **options)


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(1)
    image = rng.normal(size=(2, 3, 3, 3)).astype(np.float32)
    return {"image": image, "label": rng.integers(0, 2, (2, 3, 3)).astype(np.int32)}


def test_any_function_and_any_optimizer_will_do(arrays):
    """The step is gradient and update, nothing else: both by hand give the same parameters."""
    tx = optax.chain(optax.trace(0.9), optax.scale_by_trust_ratio(), optax.scale(-0.1))
    state, step = _own(tx, seed=5)

    @jax.jit
    def by_hand(params, opt_state, statistics):
        def loss(params):
            outputs, _ = _linear({"params": params, "batch_stats": statistics}, arrays["image"], jax.random.key(0))
            return _cross_entropy(outputs, arrays["label"], None, jnp.int32(0))[0]

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return value, optax.apply_updates(params, updates), opt_state

    params, opt_state, statistics = _copy(state.params), _copy(state.opt_state), _copy(state.batch_stats)
    for number in range(2):
        value, params, opt_state = by_hand(params, opt_state, statistics)
        state, metrics = step(state, arrays)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
        assert set(metrics) == {"loss", "loss/noise", "loss/step"}
        assert metrics["loss/step"] == number
        key = jax.random.split(jax.random.fold_in(jax.random.key(5), number))[1]
        np.testing.assert_allclose(metrics["loss/noise"], jax.random.normal(key), rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), _copy(state.params), _copy(params))
    assert state.batch_stats["encoder"]["calls"] == 2


def test_parts_of_ones_own_model_can_be_frozen(arrays):
    state, step = _own(optax.adamw(0.1, weight_decay=0.5), freeze=("encoder",))
    state, _ = step(state, arrays)
    np.testing.assert_array_equal(state.params["encoder"], np.eye(3))
    assert (state.params["head"] != 0.1).all()
    assert (state.batch_stats["encoder"]["calls"], state.batch_stats["head"]["calls"]) == (0, 1)


def test_pixels_that_do_not_count(arrays):
    where = np.zeros((2, 3, 3), bool)
    where[0, 1, 2] = True
    moved = {**arrays, "image": np.where(where[..., None], arrays["image"], 100.0)}
    losses = []
    for batch in (arrays, moved):
        state, step = _own(optax.sgd(0.1))
        losses.append(step(state, {**batch, "where": where})[1]["loss"])
    assert losses[0] == losses[1]


def test_a_state_of_another_step_is_refused(arrays):
    state, _ = _own(optax.adam(0.1))
    with pytest.raises(UserError, match=r"Make the state with create_state\(variables, tx, freeze=\('encoder',\)\)"):
        _own(optax.adam(0.1), freeze=("encoder",))[1](state, arrays)
    with pytest.raises(UserError, match="not made by this tx"):
        _own(optax.sgd(0.1, momentum=0.9))[1](state, arrays)
    with pytest.raises(UserError, match="ema_decay=0.9, but state.ema holds no averages"):
        _own(optax.adam(0.1), ema_decay=0.9)[1](state, arrays)
    with pytest.raises(UserError, match=r"names 'backbone'.*encoder, head"):
        _own(optax.adam(0.1), freeze=("backbone",))
    with pytest.raises(UserError, match="leaves no parameter to train"):
        _own(optax.adam(0.1), freeze=("encoder", "head"))


def test_batches_of_one_size_are_traced_once():
    """A loss that is traced again would mean a program that is compiled again, at every step."""
    tx = optax.sgd(0.1)
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def loss_fn(outputs, labels, where, step):
        return optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], labels).mean()

    def forward(variables, images, key):
        return {"logits": images @ variables["params"]["kernel"]}, {}

    mesh = make_mesh(1)
    state = replicate(create_state({"params": {"kernel": jnp.zeros((3, 2))}}, tx), mesh)
    step = make_train_step(forward, tx, loss_fn, mesh=mesh)
    for value in (1.0, 2.0, 3.0):
        state, _ = step(state, {"image": jnp.full((2, 4, 4, 3), value), "label": jnp.ones((2, 4, 4), jnp.int32)})
    assert int(state.step) == 3
    with pytest.raises(AssertionError, match="traced > 1 times"):
        step(state, {"image": jnp.ones((4, 4, 4, 3)), "label": jnp.ones((4, 4, 4), jnp.int32)})


def test_averages_move_once_an_update_of_several_batches(arrays):
    """Four batches, two an update: the decay is that of the first and of the second update."""
    tx = optax.MultiSteps(optax.sgd(0.5), 2).gradient_transformation()
    state, step = _own(tx, mesh=make_mesh(1), ema_decay=0.75)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    state = replicate(create_state(variables, tx, ema=True), make_mesh(1))
    seen = [_copy(state)]
    for _ in range(4):
        state, _ = step(state, arrays)
        seen.append(_copy(state))
    for idle in (1, 3):
        chex.assert_trees_all_equal(seen[idle].ema, seen[idle - 1].ema)
    for before, after, decay in ((seen[0], seen[2], 1 / 10), (seen[2], seen[4], 2 / 11)):
        old, new, ema = (x["head"] for x in (before.ema["params"], after.params, after.ema["params"]))
        assert (new != old).any()
        np.testing.assert_allclose(ema, decay * old + (1 - decay) * new, rtol=1e-5, atol=1e-7)
