"""Every entry of LOSSES keeps the contract of jaxseg/losses/__init__.py; a new loss needs no line here."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxseg.checks import UserError
from jaxseg.losses import LOSSES

SHAPE, CLASSES = (2, 4, 5), 3
# Each class is a question of its own: of one class alone there is still something to learn.
SIGMOID = {"binary_cross_entropy", "sigmoid_focal", "sigmoid_dice", "sigmoid_jaccard", "sigmoid_tversky"}
ARRAYS = ("logits", "labels", "where", "pixel_weights")

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(2 * rng.normal(size=(*SHAPE, CLASSES)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, CLASSES, SHAPE), jnp.int32)
    return logits, labels, jnp.asarray(rng.random(SHAPE) < 0.7)


@every_loss
def test_signature(loss):
    parameters = inspect.signature(loss).parameters
    assert list(parameters)[:3] == ["logits", "labels", "where"]
    for parameter in list(parameters.values())[2:]:
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty
        if parameter.name not in ARRAYS:
            assert parameter.name in loss.__doc__, f"{parameter.name} is not documented"


@every_loss
def test_value_gradient_and_what_is_ignored(loss, batch):
    logits, labels, where = batch
    step = jax.jit(jax.value_and_grad(lambda logits, labels, where: loss(logits, labels, where=where)))
    value, gradient = step(logits, labels, where)
    assert value.shape == ()
    assert value.dtype == jnp.float32
    assert value > 0
    assert np.asarray(gradient)[np.asarray(where)].any(-1).all(), "a pixel that counts has no gradient"
    assert not np.asarray(gradient)[~np.asarray(where)].any(), "an ignored pixel has a gradient"

    # Nothing that stands in an ignored pixel is read: not nan, not inf, not a label outside the classes.
    for junk in (jnp.nan, jnp.inf, -jnp.inf):
        spoiled = jnp.where(where[..., None], logits, junk), jnp.where(where, labels, 255)
        again, gradient_again = step(*spoiled, where)
        assert again == value
        np.testing.assert_array_equal(gradient_again, gradient)

    # None left: nothing to learn, even from nan.
    nothing, zero = step(jnp.full_like(logits, jnp.nan), labels, jnp.zeros(SHAPE, bool))
    assert nothing == 0
    assert not np.asarray(zero).any()

    # Scores beyond anything that exp holds.
    for scale in (1e4, -1e4):
        value, gradient = step(logits * scale, labels, where)
        assert jnp.isfinite(value)
        assert jnp.isfinite(gradient).all()


@every_loss
def test_gradient_is_that_of_the_value(loss, batch):
    logits, labels, where = batch
    check_grads(lambda x: loss(x, labels, where=where), (logits,), order=1, modes=["rev"], rtol=0.01)


@every_loss
def test_bfloat16_is_computed_in_float32(loss, batch):
    logits, labels, where = batch
    logits = logits.astype(jnp.bfloat16)
    value = loss(logits, labels, where=where)
    assert value.dtype == jnp.float32
    assert value == loss(logits.astype(jnp.float32), labels, where=where)


@every_loss
def test_no_where_is_all_where(loss, batch):
    logits, labels, _ = batch
    everywhere = loss(logits, labels, where=jnp.ones(SHAPE, bool))
    np.testing.assert_allclose(loss(logits, labels), everywhere, rtol=1e-6)
    np.testing.assert_allclose(loss(logits, labels.astype(jnp.uint8)), everywhere, rtol=1e-6)


@every_loss
def test_sizes_at_the_edge(loss, batch):
    logits, labels, where = batch
    assert jnp.isfinite(loss(logits[:1], labels[:1], where=where[:1]))
    one_class = loss(logits[..., :1], jnp.zeros_like(labels), where=where)
    if loss.__name__ in SIGMOID:
        assert jnp.isfinite(one_class)
    else:
        np.testing.assert_allclose(one_class, 0, atol=1e-6)
    one_pixel = jnp.zeros(SHAPE, bool).at[1, 2, 3].set(True)
    assert 0 < loss(logits, labels, where=one_pixel) < 20


@every_loss
def test_vmap(loss, batch):
    logits, labels, where = (jnp.stack([x, x[::-1]]) for x in batch)
    together = jax.vmap(lambda x, y, w: loss(x, y, where=w))(logits, labels, where)
    apart = [loss(x, y, where=w) for x, y, w in zip(logits, labels, where, strict=True)]
    np.testing.assert_allclose(together, jnp.stack(apart), rtol=1e-6)


@every_loss
def test_neither_gather_nor_scatter_nor_sort(loss, batch):
    text = str(jax.make_jaxpr(jax.grad(lambda x, y, w: loss(x, y, where=w)))(*batch))
    for primitive in ("gather[", "scatter", "sort[", "dynamic_slice["):
        assert primitive not in text


@every_loss
def test_wrong_arrays_are_named(loss, batch):
    logits, labels, where = batch
    with pytest.raises(UserError, match=r"Resize the logits"):
        jax.eval_shape(loss, logits[:, :2], labels)
    with pytest.raises(UserError, match="Labels must be integers"):
        jax.eval_shape(loss, logits, labels.astype(jnp.float32))
    with pytest.raises(UserError, match="Logits must be floating point"):
        jax.eval_shape(loss, logits.astype(jnp.int32), labels)
    with pytest.raises(UserError, match="`where` has shape"):
        jax.eval_shape(partial(loss, where=where[:1]), logits, labels)
