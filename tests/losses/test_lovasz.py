from functools import cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses.lovasz import jaccard_slopes, lovasz_hinge, lovasz_softmax
from tests.losses.test_cross_entropy import slope

SHAPE, C = (2, 3, 4), 4


def choquet(errors, foreground):
    """The Lovász extension as an integral: over thresholds, the Jaccard loss of the set of pixels wrong by as much."""
    total, levels = 0.0, [*sorted(set(errors[errors > 0]), reverse=True), 0.0]
    for level, lower in pairwise(levels):
        wrong = errors >= level
        total += (level - lower) * (1 - (foreground & ~wrong).sum() / (foreground | wrong).sum())
    return total


def mean_over_classes(errors, target, where, per_image, present):
    images = zip(errors, target, where, strict=True) if per_image else [(errors, target, where)]
    values = []
    for e, t, w in images:
        classes = [choquet(e[w][:, k], t[w][:, k]) for k in range(e.shape[-1]) if t[w][:, k].any() or not present]
        values.append(np.mean(classes) if classes else 0.0)
    return np.mean(values)


def softmax_reference(logits, labels, where, per_image, present):
    logits = logits.astype(np.float64)
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    target = labels[..., None] == np.arange(logits.shape[-1])
    return mean_over_classes(np.abs(target - p), target, where, per_image, present)


def hinge_reference(logits, labels, where, per_image, present):
    target = labels if labels.ndim == 4 else labels[..., None] == np.arange(logits.shape[-1])
    errors = np.maximum(0, 1 - logits.astype(np.float64) * (2.0 * target - 1))
    return mean_over_classes(errors, target.astype(bool), where, per_image, present)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    logits = (2 * rng.normal(size=(*SHAPE, C))).astype(np.float32)
    return logits, rng.integers(0, C - 1, SHAPE), rng.random(SHAPE) < 0.7  # the last class is absent


@cache
def compiled(loss, per_image, present):
    """(logits, labels, where) -> (value, gradient)."""
    options = {"per_image": per_image, "present": present}
    return jax.jit(jax.value_and_grad(lambda x, y, w: loss(x, y, where=w, **options)))


@pytest.mark.parametrize(
    "loss, reference, per_image, present",
    [
        (lovasz_softmax, softmax_reference, False, True),
        (lovasz_softmax, softmax_reference, True, True),
        (lovasz_softmax, softmax_reference, True, False),
        (lovasz_hinge, hinge_reference, False, False),
        (lovasz_hinge, hinge_reference, True, True),
    ],
)
def test_value_and_gradient_are_the_definition(batch, loss, reference, per_image, present):
    logits, labels, where = batch
    value, gradient = compiled(loss, per_image, present)(*batch)
    np.testing.assert_allclose(value, reference(logits, labels, where, per_image, present), rtol=1e-6)
    expected = slope(lambda x: reference(x, labels, where, per_image, present), logits.astype(np.float64), step=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_hinge_of_many_labels_a_pixel(batch):
    logits, _, where = batch
    labels = np.random.default_rng(2).random((*SHAPE, C)) < 0.4
    value, _ = compiled(lovasz_hinge, False, False)(logits, labels, where)
    np.testing.assert_allclose(value, hinge_reference(logits, labels, where, False, False), rtol=1e-6)


@pytest.mark.parametrize(
    "loss, reference, present", [(lovasz_softmax, softmax_reference, True), (lovasz_hinge, hinge_reference, False)]
)
def test_ignored_pixels_are_as_if_cut_out(batch, loss, reference, present):
    """They are sorted too; were they not last, they would enlarge the union of every class."""
    logits, labels, where = batch
    cut = logits[where][None, None], labels[where][None, None]
    expected = reference(*cut, np.ones((1, 1, where.sum()), bool), False, present)
    for junk in (0.0, 50.0, -50.0, np.nan):
        spoiled = np.where(where[..., None], logits, np.float32(junk))
        value, gradient = compiled(loss, False, present)(spoiled, np.where(where, labels, 255), where)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert not np.asarray(gradient)[~where].any()


def test_hard_errors_cost_one_minus_iou():
    labels = np.random.default_rng(3).integers(0, C, SHAPE)
    prediction = np.random.default_rng(4).integers(0, C, SHAPE)
    ious = [((labels == k) & (prediction == k)).sum() / ((labels == k) | (prediction == k)).sum() for k in range(C)]
    logits = 1e4 * np.eye(C, dtype=np.float32)[prediction]
    loss, _ = compiled(lovasz_softmax, False, True)(logits, labels, np.ones(SHAPE, bool))
    np.testing.assert_allclose(loss, 1 - np.mean(ious), rtol=1e-6)


def test_hinge_at_the_extremes(batch):
    logits, labels, where = batch
    step = compiled(lovasz_hinge, False, False)
    for scale in (1e4, -1e4):
        value, gradient = step(logits * np.float32(scale), labels, where)
        expected = hinge_reference(logits * np.float32(scale), labels, where, False, False)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        assert jnp.isfinite(gradient).all()
    value, gradient = step(np.full_like(logits, np.nan), labels, np.zeros(SHAPE, bool))
    assert value == 0
    assert not np.asarray(gradient).any()


def test_slopes_of_a_million_pixels_keep_their_digits():
    """A difference of neighboring IoUs, which differ by 1e-6 here, would keep two."""
    n = 1_000_000
    rng = np.random.default_rng(5)
    errors, target = np.linspace(1, 0, n, dtype=np.float32), rng.random(n) < 0.01
    slopes = jax.jit(jaccard_slopes)(errors, target, np.ones(n, bool))
    hits, misses = np.cumsum(target), np.cumsum(~target)
    iou = (target.sum() - hits) / (target.sum() + misses)
    expected = -np.diff(iou, prepend=1.0)  # float64
    np.testing.assert_allclose(slopes, expected, rtol=1e-6, atol=1e-14)
    naive = -np.diff(iou.astype(np.float32), prepend=np.float32(1))
    assert np.abs(naive / np.where(expected > 0, expected, 1) - 1)[expected > 0].max() > 0.01


def test_wrong_labels_are_named(batch):
    logits, _, _ = batch
    with pytest.raises(UserError, match="hold 3 classes per pixel"):
        lovasz_hinge(jnp.asarray(logits), jnp.zeros((*SHAPE, 3), bool))
