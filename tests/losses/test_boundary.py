import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.checks import UserError
from jaxseg.losses import boundary, hausdorff
from tests.losses.test_cross_entropy import slope

SHAPE, C = (3, 4, 6), 3
OPTIONS = {
    "boundary": (boundary, {}),
    "boundary of two": (boundary, {"classes": (2, 1)}),
    "hausdorff": (hausdorff, {}),
    "hausdorff of one": (hausdorff, {"classes": [1], "alpha": 1.5}),
}


def to_nearest(region):
    """Distance of every pixel to the nearest True one, over all pairs."""
    apart = np.argwhere(np.ones_like(region))[:, None] - np.argwhere(region)
    return np.sqrt((apart**2).sum(-1)).min(1).reshape(region.shape)


def to_other_side(region, counts):
    inside, outside = region & counts, ~region & counts
    if not inside.any() or not outside.any():
        return np.zeros(region.shape)
    return np.where(inside, to_nearest(outside), np.where(outside, to_nearest(inside), 0))


def softmax(logits):
    return np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))


def level_set(region, counts):
    across = to_other_side(region, counts)
    return np.where(region & (across > 0), 1 - across, across)


def reference_boundary(logits, labels, where, classes=range(C)):
    """Over what counts, the mean of φ·p, one image and class after the other, in float64."""
    p, total = softmax(logits.astype(np.float64)), 0.0
    for image in range(len(labels)):
        for k in classes:
            total += (level_set(labels[image] == k, where[image]) * p[image, ..., k])[where[image]].sum()
    return total / where.sum() / len(classes)


def reference_hausdorff(logits, labels, where, classes=range(C), alpha=2.0):
    p, total = softmax(logits.astype(np.float64)), 0.0
    for image in range(len(labels)):
        for k in classes:
            label, found = labels[image] == k, p[image, ..., k] > 0.5
            cost = sum(to_other_side(x, where[image]) ** alpha for x in (label, found))
            total += ((p[image, ..., k] - label) ** 2 * cost)[where[image]].sum()
    return total / where.sum() / len(classes)


REFERENCES = {boundary: reference_boundary, hausdorff: reference_hausdorff}


@pytest.fixture(scope="module")
def batch():
    """Two images with all classes, and one of class 0 alone."""
    rng = np.random.default_rng(1)
    labels = ndimage.zoom(rng.integers(0, C, (3, 2, 3)), (1, 2, 2), order=0)
    labels[2] = 0
    return (2 * rng.normal(size=(*SHAPE, C))).astype(np.float32), labels, rng.random(SHAPE) < 0.8


@pytest.fixture(scope="module")
def step():
    def losses(logits, labels, where):
        return {
            name: jax.value_and_grad(lambda x, f=f, o=options: f(x, labels, where=where, **o))(logits)
            for name, (f, options) in OPTIONS.items()
        }

    return jax.jit(losses)


def test_values_and_gradients_are_the_definition(batch, step):
    logits, labels, where = batch
    for name, (value, gradient) in step(logits, labels, where).items():
        loss, options = OPTIONS[name]
        reference = REFERENCES[loss]
        expected = reference(logits, labels, where, **options)
        np.testing.assert_allclose(value, expected, rtol=1e-6, err_msg=name)
        slopes = slope(lambda x, f=reference, o=options: f(x, labels, where, **o), logits.astype(np.float64))
        np.testing.assert_allclose(gradient, slopes, rtol=1e-4, atol=1e-7, err_msg=name)


def test_the_best_prediction_and_the_worst(batch, step):
    """The least boundary loss is the mean of the level set over the label: negative. Nothing is 0 for an image of one
    class, whatever is predicted there of `boundary`."""
    _, labels, where = batch
    labels = np.where(where, labels, 255)
    right, wrong = (np.float32(1e4) * np.eye(C, dtype=np.float32)[np.where(where, x, 0)] for x in (labels, 2 - labels))
    best, worst = step(right, labels, where), step(wrong, labels, where)
    assert best["boundary"][0] <= 0 < worst["boundary"][0]
    assert best["hausdorff"][0] == 0 < worst["hausdorff"][0]
    for extreme in (right, wrong):
        for name, (value, gradient) in step(extreme, labels, where).items():
            loss, options = OPTIONS[name]
            np.testing.assert_allclose(value, REFERENCES[loss](extreme, labels, where, **options), rtol=1e-6, atol=1e-9)
            assert np.isfinite(gradient).all()
    _, gradient = best["boundary"]
    assert not np.asarray(gradient)[2].any(), "an image of one class has no border"


def test_the_numbers_of_the_authors_code(batch, step):
    """Their map of a class, by SciPy; nothing for a class that the image lacks. They have no ignored pixels."""
    logits, labels, _ = batch
    p, total = softmax(logits.astype(np.float64)), 0.0
    for image, k in np.ndindex(2, C):
        positive = labels[image] == k
        if positive.any():
            outside, inside = (ndimage.distance_transform_edt(x) for x in (~positive, positive))
            total += ((outside * ~positive - (inside - 1) * positive) * p[image, ..., k]).sum()
    everywhere = np.ones(SHAPE, bool)
    everywhere[2] = False
    value = step(logits, labels, everywhere)["boundary"][0]
    np.testing.assert_allclose(value, total / everywhere.sum() / C, rtol=1e-6)


def test_what_is_ignored_moves_no_border(batch, step):
    """A strip between two classes that nobody labeled: distances are those to the nearest labeled pixel."""
    labels = np.zeros(SHAPE, int)
    labels[..., 3:] = 1
    where = np.ones(SHAPE, bool)
    where[..., 2:4] = False
    logits = batch[0]
    value = step(logits, np.where(where, labels, 255), where)["boundary"][0]
    phi = np.array([[0, 0, 0, 0, 3, 4], [4, 3, 0, 0, 0, 0]]) - np.array([[3, 2, 0, 0, 0, 0], [0, 0, 0, 0, 2, 3]])
    total = (softmax(logits.astype(np.float64))[..., :2] * phi.T)[where].sum()
    np.testing.assert_allclose(value, total / where.sum() / C, rtol=1e-5)


@pytest.mark.parametrize(
    "function, options, message",
    [
        (boundary, {"classes": (0, 3)}, r"`classes` must be different class ids in \[0, 3\).*got \(0, 3\)"),
        (boundary, {"classes": ()}, "at least one"),
        (hausdorff, {"classes": (1, 1)}, "different"),
        (hausdorff, {"alpha": 0.0}, "`alpha` must be positive, got 0.0"),
    ],
)
def test_wrong_options_are_named(batch, function, options, message):
    logits, labels, _ = batch
    with pytest.raises(UserError, match=message):
        function(jnp.asarray(logits), jnp.asarray(labels), **options)
