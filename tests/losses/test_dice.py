import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses.dice import dice
from tests.losses.test_cross_entropy import slope

SHAPE, C = (2, 3, 4), 4


def reference(logits, labels, where, smooth=1.0):
    """The definition, image by image and class by class, in float64."""
    values = []
    for scores, label, counts in zip(logits.astype(np.float64), labels, where, strict=True):
        p = np.exp(scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True))
        for k in range(scores.shape[-1]):
            predicted, target = p[..., k][counts], (label == k)[counts]
            both = (predicted * target).sum()
            values.append(1 - (2 * both + smooth) / (predicted.sum() + target.sum() + smooth))
    return np.mean(values)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    logits = (2 * rng.normal(size=(*SHAPE, C))).astype(np.float32)
    return logits, rng.integers(0, C - 1, SHAPE), rng.random(SHAPE) < 0.7  # the last class is absent


@pytest.mark.parametrize("smooth", [1.0, 1e-3, 50.0])
def test_value_and_gradient_are_the_definition(batch, smooth):
    logits, labels, where = batch
    step = jax.jit(jax.value_and_grad(lambda x: dice(x, labels, where=where, smooth=smooth)))
    value, gradient = step(logits)
    np.testing.assert_allclose(value, reference(logits, labels, where, smooth), rtol=1e-6)
    expected = slope(lambda x: reference(x, labels, where, smooth), logits.astype(np.float64))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_the_batch_as_one_image(batch):
    logits, labels, where = batch
    value, gradient = jax.value_and_grad(lambda x: dice(x, labels, where=where, per_image=False))(logits)
    joined = [x.reshape(1, -1, *x.shape[2:]) for x in (logits, labels, where)]
    np.testing.assert_allclose(value, reference(*joined), rtol=1e-6)
    expected = slope(lambda x: reference(x.reshape(joined[0].shape), *joined[1:]), logits.astype(np.float64))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)
    assert abs(value - dice(logits, labels, where=where)) > 1e-3


def test_an_image_with_no_pixel_that_counts_contributes_zero(batch):
    logits, labels, where = batch
    half = dice(logits, labels, where=where & (np.arange(2) == 0)[:, None, None])
    np.testing.assert_allclose(half, dice(logits[:1], labels[:1], where=where[:1]) / 2, rtol=1e-6)


def test_extremes(batch):
    _, labels, where = batch
    right = jnp.asarray(1e4 * np.eye(C)[labels])
    np.testing.assert_allclose(dice(right, labels, where=where), 0, atol=1e-7)
    wrong = jnp.asarray(1e4 * np.eye(C)[(labels + 1) % 3])  # no overlap anywhere; the last class nowhere
    np.testing.assert_allclose(dice(wrong, labels, where=where), reference(np.asarray(wrong), labels, where), rtol=1e-6)


def test_a_class_predicted_where_there_is_none_is_punished():
    labels = np.zeros((1, 4, 4), int)
    wrong = dice(jnp.asarray(100.0 * np.eye(2)[labels + 1]), labels)  # 16 pixels of class 1, all of them false
    np.testing.assert_allclose(wrong, 16 / 17, rtol=1e-6)


def test_smooth_must_be_positive(batch):
    logits, labels, _ = batch
    with pytest.raises(UserError, match="`smooth` must be positive, got 0"):
        dice(jnp.asarray(logits), jnp.asarray(labels), smooth=0)
