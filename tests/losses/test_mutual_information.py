from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses.mutual_information import region_mutual_information, sigmoid_region_mutual_information

SHAPE, C = (2, 7, 8), 2


def one_map(p, t, where, stride, alpha):
    """½ log det(I + M/α) / 9 of one class in one image, in float64, window by window, with an inverse."""
    h, w = (-(-n // stride) for n in p.shape)
    small = {}
    for i, j in np.ndindex(h, w):
        window = np.s_[i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
        if where[window].any():
            small[i, j] = p[window][where[window]].mean(), t[window][where[window]].mean()
    vectors = np.full((len(small), 2, 9), np.nan)
    for row, (i, j) in enumerate(small):
        for k, (di, dj) in enumerate(np.ndindex(3, 3)):
            vectors[row, :, k] = small.get((i + di - 1, j + dj - 1), (np.nan, np.nan))
    if not small:
        return 0.0
    known = ~np.isnan(vectors)
    means = np.where(known, vectors, 0).sum(0) / np.maximum(known.sum(0), 1)
    vectors = np.where(known, vectors - means, 0.0)
    x, y = vectors[:, 0], vectors[:, 1]
    covariance = {key: a.T @ b / len(small) for key, a, b in (("pp", x, x), ("tp", y, x), ("tt", y, y))}
    inverse = np.linalg.inv(covariance["pp"] + alpha * np.eye(9))
    unexplained = covariance["tt"] - covariance["tp"] @ inverse @ covariance["tp"].T
    return 0.5 * np.linalg.slogdet(np.eye(9) + unexplained / alpha)[1] / 9


def reference(p, t, where, *, stride=3, regularizer=5e-4):
    pairs = [(b, k) for b in range(len(p)) for k in range(p.shape[-1])]
    return np.mean([one_map(p[b, ..., k], t[b, ..., k], where[b], stride, regularizer) for b, k in pairs])


def softmax_reference(logits, labels, where, **options):
    p = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    return reference(p, labels[..., None] == np.arange(C), where, **options)


def check_gradient(function, x, gradient):
    """Compares with central differences along a random direction, in which each pixel has its part."""
    direction = np.random.default_rng(2).normal(size=x.shape)
    expected = (function(x + 1e-5 * direction) - function(x - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose((gradient * direction).sum(), expected, rtol=1e-4)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    logits = (2 * rng.normal(size=(*SHAPE, C))).astype(np.float32)
    return logits, rng.integers(0, C, SHAPE), rng.random(SHAPE) < 0.8


@cache
def compiled(loss, **options):
    step = jax.value_and_grad(lambda x, y, w: loss(x, y, where=w, **options))
    return jax.jit(step)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "regularizer": 0.01}], ids=["default", "options"])
def test_value_and_gradient_are_the_definition(batch, options):
    logits, labels, where = batch
    value, gradient = compiled(region_mutual_information, **options)(*batch)
    logits = logits.astype(np.float64)
    np.testing.assert_allclose(value, softmax_reference(logits, labels, where, **options), rtol=1e-6)
    check_gradient(lambda x: softmax_reference(x, labels, where, **options), logits, gradient)


def test_sigmoids_of_many_labels_a_pixel(batch):
    logits, labels, where = batch
    labels = np.stack([labels == 1, np.roll(labels, 3) == 0], axis=-1)
    value, gradient = compiled(sigmoid_region_mutual_information)(logits, labels, where)

    def expected(x):
        return reference(1 / (1 + np.exp(-x)), labels, where)

    np.testing.assert_allclose(value, expected(logits.astype(np.float64)), rtol=1e-6)
    check_gradient(expected, logits.astype(np.float64), gradient)


def test_a_perfect_map_leaves_little_and_one_image_can_be_empty(batch):
    """Little, not nothing: α keeps M of T itself at about α."""
    _, labels, where = batch
    step = compiled(region_mutual_information)
    perfect = 30 * np.eye(C, dtype=np.float32)[labels]
    value, gradient = step(perfect, labels, where)
    np.testing.assert_allclose(value, softmax_reference(perfect.astype(np.float64), labels, where), rtol=1e-6)
    assert jnp.isfinite(gradient).all()
    first = where & (np.arange(2) == 0)[:, None, None]
    logits = np.where(first[..., None], batch[0], np.float32(np.nan))
    value, gradient = step(logits, np.where(first, labels, 255), first)
    np.testing.assert_allclose(value, softmax_reference(batch[0].astype(np.float64), labels, first), rtol=1e-6)
    assert not np.asarray(gradient)[~first].any()


@pytest.mark.parametrize("regularizer", [5e-4, 1e-4])
def test_well_explained_labels_keep_their_digits(regularizer):
    """Over regions, from scores that say nothing to scores that are right: there α is all that is left."""
    y, x = np.mgrid[:48, :48]
    labels = ((x // 9 + y // 11) % C)[None]
    noise = np.random.default_rng(3).normal(size=(*labels.shape, C))
    where = np.ones(labels.shape, bool)
    step = compiled(region_mutual_information, regularizer=regularizer)
    for contrast in (0.0, 2.0, 4.0, 8.0, 16.0):
        logits = (contrast * np.eye(C)[labels] + noise).astype(np.float32)
        value, gradient = step(logits, labels, where)

        def expected(x):
            return softmax_reference(x, labels, where, regularizer=regularizer)

        logits = logits.astype(np.float64)
        np.testing.assert_allclose(value, expected(logits), rtol=1e-6)
        if contrast < 8:  # beyond, central differences have no digits
            check_gradient(expected, logits, gradient)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"stride": 0}, "`stride` must be at least 1, got 0"),
        ({"region": 2}, "`region` must be odd and at least 1, got 2"),
        ({"regularizer": 1e-6}, r"`regularizer` must be in \[1e-4, 1\], got 1e-06"),
    ],
)
def test_wrong_options_are_named(batch, options, message):
    logits, labels, _ = batch
    with pytest.raises(UserError, match=message):
        region_mutual_information(jnp.asarray(logits), jnp.asarray(labels), **options)
