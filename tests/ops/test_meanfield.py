"""Fully connected CRFs against the sum over all pairs of pixels, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.ops.meanfield import NORMALIZATIONS, dense_crf, mean_field, spatial_kernel

H, W, C = 8, 9, 3
WIDTHS = dict(spatial_sigma=2.0, bilateral_sigma=6.0, color_sigma=20.0)
WEIGHTS = dict(spatial_weight=1.0, bilateral_weight=3.0)


@pytest.fixture(scope="module")
def sample():
    """Scores that are right for four pixels in five, over an image of three areas with noise."""
    rng = np.random.default_rng(0)
    label = (np.indices((H, W)).sum(0) // 6) % C
    image = np.array([[200, 40, 40], [40, 180, 60], [60, 60, 160]])[label] + rng.normal(0, 6, (H, W, 3))
    seen = np.where(rng.random((H, W)) < 0.2, rng.integers(0, C, (H, W)), label)
    return 2.0 * np.eye(C)[seen], np.clip(image, 0, 255).astype(np.uint8), label


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def naive_kernel(features):
    k = np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(-1))
    return k / np.sqrt(k.sum(1)[:, None] * k.sum(0)[None])


def naive_crf(scores, image, iterations=5, compatibility=None):
    """Every turn, every pixel hears every pixel (Krähenbühl & Koltun, 2011, alg. 1)."""
    compatibility = 1 - np.eye(C) if compatibility is None else compatibility
    place = np.indices(scores.shape[:2]).reshape(2, -1).T.astype(float)
    color = image.reshape(-1, 3).astype(float)
    kernels = (
        naive_kernel(place / WIDTHS["spatial_sigma"]),
        naive_kernel(np.hstack([place / WIDTHS["bilateral_sigma"], color / WIDTHS["color_sigma"]])),
    )
    scores = scores.reshape(-1, C)
    q = softmax(scores)
    for _ in range(iterations):
        votes = sum(weight * kernel @ q for weight, kernel in zip(WEIGHTS.values(), kernels, strict=True))
        q = softmax(scores - votes @ compatibility)
    return q.reshape(H, W, C), kernels


@pytest.fixture(scope="module")
def refine():
    def refine(scores, image, where):
        return dense_crf(scores, image, where=where, **WIDTHS, **WEIGHTS)

    return jax.jit(refine)


@pytest.fixture(scope="module")
def refined(sample, refine):
    """Two images at once, both padded: the one of `image`, and its upper part."""
    scores, image, _ = sample
    wide = np.full((2, H + 3, W + 2, C), np.nan, np.float32)
    images = np.full((2, H + 3, W + 2, 3), 99, np.uint8)
    wide[:, :H, :W], images[:, :H, :W] = scores, image
    where = np.zeros((2, H + 3, W + 2), bool)
    where[0, :H, :W], where[1, :5, :W] = True, True
    return np.asarray(jax.nn.softmax(refine(wide, images, where)))


def test_mean_field_equals_all_pairs(sample):
    scores, image, _ = sample
    expected, (near, alike) = naive_crf(scores, image)
    both = jnp.asarray(near * WEIGHTS["spatial_weight"] + alike * WEIGHTS["bilateral_weight"], jnp.float32)
    found = mean_field(
        jnp.asarray(scores.reshape(-1, C)), lambda q: -jnp.dot(both, q, precision="highest"), iterations=5
    )
    np.testing.assert_allclose(softmax(np.asarray(found, np.float64)).reshape(H, W, C), expected, atol=2e-6)
    assert (mean_field(found, lambda q: q, iterations=0) == found).all()


def test_the_lattice_is_close_to_all_pairs_and_mends_the_scores(sample, refined):
    scores, image, label = sample
    expected, _ = naive_crf(scores, image)
    error = np.abs(refined[0, :H, :W] - expected)
    assert error.max() < 0.1 and error.mean() < 0.01
    wrong = (scores.argmax(-1) != label).sum()
    assert wrong > 6 and (refined[0, :H, :W].argmax(-1) != label).sum() <= wrong // 3


def test_pixels_that_are_not_there_change_nothing(sample, refine, refined):
    scores, image, _ = sample
    alone = jax.nn.softmax(refine(scores[None, :5].astype(np.float32), image[None, :5], np.ones((1, 5, W), bool)))
    np.testing.assert_allclose(refined[1, :5, :W], alone[0], atol=1e-5)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_spatial_kernel_equals_all_pairs(name):
    place = np.indices((4, 5)).reshape(2, -1).T
    k = np.exp(-((place[:, None] - place[None]) ** 2).sum(-1) / (2 * 1.5**2))
    d = np.diag(k.sum(1))
    expected = {
        "symmetric": np.sqrt(np.linalg.inv(d)) @ k @ np.sqrt(np.linalg.inv(d)),
        "before": k @ np.linalg.inv(d),
        "after": np.linalg.inv(d) @ k,
        "none": k / np.diag(d).mean(),
    }[name]
    x = np.random.default_rng(0).normal(size=(20, 2))
    found = spatial_kernel((4, 5), 1.5, normalization=name)(jnp.asarray(x.reshape(4, 5, 2), jnp.float32))
    np.testing.assert_allclose(found.reshape(20, 2), expected @ x, atol=1e-6)


def test_compatibility_is_a_cost_of_labels_side_by_side(sample):
    scores, image, _ = sample
    cost = np.array([[0, 1, 3], [0.5, 0, 1], [2, 1, 0.2]])
    _, kernels = naive_crf(scores, image)
    expected, _ = naive_crf(scores, image, 2, cost)
    both = sum(w * k for w, k in zip(WEIGHTS.values(), kernels, strict=True))
    found = mean_field(jnp.asarray(scores.reshape(-1, C)), lambda q: both @ q @ cost, iterations=2)
    np.testing.assert_allclose(jax.nn.softmax(found).reshape(H, W, C), expected, atol=1e-5)


def test_mistakes_are_named():
    with pytest.raises(UserError, match="`iterations` must be at least 0, got -1"):
        mean_field(jnp.zeros((1, 2)), lambda q: q, iterations=-1)
    with pytest.raises(UserError, match="Unknown normalization 'symetric'. Did you mean 'symmetric'"):
        spatial_kernel((2, 2), 1.0, normalization="symetric")
    with pytest.raises(UserError, match=r"Logits \(1, 2, 2, 3\) and images \(1, 4, 4, 3\) disagree"):
        dense_crf(jnp.zeros((1, 2, 2, 3)), jnp.zeros((1, 4, 4, 3)))


def test_dense_crf_takes_the_cost_of_the_column_beside_the_row():
    """One turn of a blur so wide that every pixel gets the mean of all, written out label by label."""
    logits = jnp.array([[2.0, 0.0, 1.0], [0.0, 1.0, -1.0]])
    cost = np.array([[0.0, 5.0, 2.0], [1.0, 0.0, 3.0], [0.5, 4.0, 0.0]])  # cost[i, j]: of label j beside label i
    wide = {"spatial_sigma": 1e4, "spatial_weight": 2.0, "bilateral_weight": 0.0, "normalization": "after"}
    refined = dense_crf(
        logits[None, None], jnp.zeros((1, 1, 2, 3)), iterations=1, compatibility=jnp.asarray(cost, jnp.float32), **wide
    )
    votes = 2 * np.asarray(jax.nn.softmax(logits)).mean(0)
    expected = [[logits[p, j] - sum(votes[i] * cost[i, j] for i in range(3)) for j in range(3)] for p in range(2)]
    np.testing.assert_allclose(refined[0, 0], expected, rtol=1e-4)
