import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses import LOSSES
from jaxseg.losses.regions import sigmoid_counts, softmax_counts
from tests.losses.test_cross_entropy import slope

SHAPE, C = (2, 3, 4), 3


def softmax(scores):
    return np.exp(scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True))


def sigmoid(scores):
    return np.exp(-np.logaddexp(0, -scores))


def overlaps(formula, logits, targets, where, *, activation=softmax, per_image=True):
    """The mean over images and classes of `formula(p, t)`, of the pixels that count, in float64."""
    p, values = activation(np.asarray(logits, np.float64)), []
    groups = [np.index_exp[i] for i in range(len(p))] if per_image else [np.index_exp[:]]
    for image in groups:
        for k in range(p.shape[-1]):
            values.append(formula(p[image][..., k][where[image]], targets[image][..., k][where[image]].astype(float)))
    return np.mean(values, axis=0)


def check(losses, logits):
    """Values and gradients of {name: (ours, the float64 version)}, all in one program."""

    def step(x):
        return {name: jax.value_and_grad(ours)(x) for name, (ours, _) in losses.items()}

    for name, (value, gradient) in jax.jit(step)(logits).items():
        reference = losses[name][1]
        np.testing.assert_allclose(value, reference(logits.astype(np.float64)), rtol=1e-6, err_msg=name)
        expected = slope(reference, logits.astype(np.float64))
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7, err_msg=name)


def make_batch(seed=1):
    """Logits, class ids (the last class is absent), what counts, and labels of which many may hold."""
    rng = np.random.default_rng(seed)
    logits = (2 * rng.normal(size=(*SHAPE, C))).astype(np.float32)
    return logits, rng.integers(0, C - 1, SHAPE), rng.random(SHAPE) < 0.7, rng.random((*SHAPE, C)) < 0.4


@pytest.mark.parametrize("squared", [False, True], ids=["", "squared"])
@pytest.mark.parametrize("per_image", [False, True], ids=["batch", "images"])
def test_sums_are_the_definition(per_image, squared):
    logits, labels, where, many = make_batch()
    power = 2 if squared else 1

    def formula(p, t):
        return np.array([(p * t).sum(), (p[t == 0] ** power).sum(), ((1 - p[t == 1]) ** power).sum()])

    cases = {
        softmax_counts: (labels, np.eye(C)[labels], softmax),
        sigmoid_counts: (many, many, sigmoid),
    }
    for counts, (given, targets, activation) in cases.items():
        found = counts(
            jnp.asarray(logits), jnp.asarray(given), jnp.asarray(where), per_image=per_image, squared=squared
        )
        assert found.tp.shape == ((2, C) if per_image else (C,))
        mean = [x.mean() for x in found]
        np.testing.assert_allclose(
            mean, overlaps(formula, logits, targets, where, activation=activation, per_image=per_image), rtol=1e-6
        )


def test_what_is_nearly_right_keeps_its_digits():
    """Of a probability of 1 - 2e-9, 1 - p in float32 is 0."""
    labels = np.array([[[0, 1, 2]]])
    logits = 20 * np.eye(C, dtype=np.float32)[labels]
    p = np.exp(-20.0)
    for counts, missing in ((softmax_counts, 2 * p / (1 + 2 * p)), (sigmoid_counts, None)):
        found = counts(jnp.asarray(logits - (0 if missing else 10)), jnp.asarray(labels), None, per_image=True)
        expected = missing or 1 / (1 + np.exp(10.0))
        np.testing.assert_allclose(found.fn, np.full((1, C), expected), rtol=1e-6)


def test_the_sum_over_a_large_image_is_exact():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 1024, 1024, 1)).astype(np.float32)
    found = sigmoid_counts(jnp.asarray(logits), jnp.zeros((1, 1024, 1024), int), None, per_image=True)
    np.testing.assert_allclose(found.fp[0, 0], sigmoid(logits.astype(np.float64)).sum(), rtol=1e-6)


def test_class_ids_are_one_against_all_and_one_class_is_the_foreground():
    logits, labels, where, _ = (jnp.asarray(x) for x in make_batch())
    hot = jax.nn.one_hot(labels, C, dtype=jnp.int32)

    def both(name):
        loss = LOSSES[name]
        ids, many = loss(logits, labels, where=where), loss(logits, hot, where=where)
        one = [loss(logits[..., :1], x, where=where) for x in (labels, labels == 1, hot[..., 1:2])]
        return [ids, many], one

    names = [name for name in LOSSES if name == "binary_cross_entropy" or name.startswith("sigmoid_")]
    assert len(names) >= 5
    for name, groups in jax.jit(lambda: {x: both(x) for x in names})().items():
        for group in groups:
            np.testing.assert_allclose(group, [group[0]] * len(group), rtol=1e-6, err_msg=name)
    with pytest.raises(UserError, match=r"Labels of 3 classes are ids or bool\[b, h, w, c\], got bool"):
        sigmoid_counts(logits, labels == 1, where, per_image=True)


@pytest.mark.parametrize("name", [*("dice", "sigmoid_dice", "log_cosh_dice", "generalized_dice", "jaccard")])
def test_smooth_must_be_positive_whatever_the_loss(name):
    with pytest.raises(UserError, match="`smooth` must be positive, got 0"):
        jax.eval_shape(lambda: LOSSES[name](jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 1, 1), int), smooth=0))
