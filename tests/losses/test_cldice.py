from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses.cldice import sigmoid_cldice, soft_cldice
from tests.ops.test_morphology import skeleton

SHAPE, C = (2, 4, 5), 3


def cldice_reference(p, t, where, classes, per_image, smooth):
    """The definition, in float64; `skeleton` is written pixel by pixel."""
    p, t = (np.where(where[..., None], x, 0.0)[..., list(classes)] for x in (p, t))
    sp, st = skeleton(p, where, 1), skeleton(t, where, 1)
    axes = (1, 2) if per_image else (0, 1, 2)
    precision = ((sp * t).sum(axes) + smooth) / (sp.sum(axes) + smooth)
    sensitivity = ((st * p).sum(axes) + smooth) / (st.sum(axes) + smooth)
    return np.mean(1 - 2 * precision * sensitivity / (precision + sensitivity))


def softmax_reference(logits, labels, where, *, classes=(1, 2), per_image=True, smooth=1.0):
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    return cldice_reference(p, labels[..., None] == np.arange(C), where, classes, per_image, smooth)


def sigmoid_reference(logits, labels, where, *, classes=(0, 1, 2), per_image=True, smooth=1.0):
    return cldice_reference(1 / (1 + np.exp(-logits)), labels, where, classes, per_image, smooth)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    logits = (2 * rng.normal(size=(*SHAPE, C))).astype(np.float32)
    return logits, rng.integers(0, C, SHAPE), rng.random(SHAPE) < 0.8


def check_gradient(function, x, gradient):
    """Compares with central differences along two random directions: each pixel has its part in both."""
    for direction in np.random.default_rng(2).normal(size=(2, *x.shape)):
        expected = (function(x + 1e-6 * direction) - function(x - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose((gradient * direction).sum(), expected, rtol=1e-5, atol=1e-7)


@cache
def compiled(loss, **options):
    step = jax.value_and_grad(lambda x, y, w: loss(x, y, where=w, iterations=1, **options))
    return jax.jit(step)


@pytest.mark.parametrize(
    "options", [{}, {"classes": (0, 2), "per_image": False, "smooth": 0.1}], ids=["default", "options"]
)
def test_value_and_gradient_are_the_definition(batch, options):
    logits, labels, where = batch
    value, gradient = compiled(soft_cldice, **options)(*batch)
    logits = logits.astype(np.float64)
    np.testing.assert_allclose(value, softmax_reference(logits, labels, where, **options), rtol=1e-6)
    check_gradient(lambda x: softmax_reference(x, labels, where, **options), logits, gradient)


def test_sigmoids_of_many_labels_a_pixel(batch):
    logits, labels, where = batch
    labels = np.stack([labels == 1, labels > 0, labels == 2], axis=-1)
    value, gradient = compiled(sigmoid_cldice)(logits, labels, where)
    logits = logits.astype(np.float64)
    np.testing.assert_allclose(value, sigmoid_reference(logits, labels, where), rtol=1e-6)
    check_gradient(lambda x: sigmoid_reference(x, labels, where), logits, gradient)


def test_an_image_with_no_pixel_that_counts_contributes_zero(batch):
    logits, labels, where = batch
    first = where & (np.arange(2) == 0)[:, None, None]
    spoiled = np.where(first[..., None], logits, np.nan)
    value, gradient = compiled(soft_cldice)(spoiled, np.where(first, labels, 255), first)
    expected = softmax_reference(logits[:1].astype(np.float64), labels[:1], where[:1]) / 2
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert not np.asarray(gradient)[~first].any()


def test_a_perfect_map_costs_nothing_and_keeps_its_digits(batch):
    _, labels, where = batch
    logits = 12 * np.eye(C, dtype=np.float32)[labels]
    value, _ = compiled(soft_cldice)(logits, labels, where)
    np.testing.assert_allclose(value, softmax_reference(logits.astype(np.float64), labels, where), rtol=1e-4)
    assert compiled(soft_cldice)(logits * 1000, labels, where)[0] == 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"classes": (1, 3)}, r"`classes` must be different class ids in \[0, 3\).*got \(1, 3\)"),
        ({"classes": (1, 1)}, r"`classes` must be different class ids in \[0, 3\)"),
        ({"iterations": -1}, "`iterations` must be at least 0, got -1"),
        ({"smooth": 0.0}, "`smooth` must be positive"),
    ],
)
def test_wrong_options_are_named(batch, options, message):
    logits, labels, _ = batch
    for loss in (soft_cldice, sigmoid_cldice):
        with pytest.raises(UserError, match=message):
            jax.eval_shape(lambda x, y, loss=loss: loss(x, y, **options), jnp.asarray(logits), jnp.asarray(labels))
