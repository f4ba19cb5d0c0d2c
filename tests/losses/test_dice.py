import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses.dice import dice, generalized_dice, log_cosh_dice, sigmoid_dice
from tests.losses.test_cross_entropy import slope
from tests.losses.test_regions import check, make_batch, overlaps, sigmoid, softmax

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
    step = jax.value_and_grad(lambda x: dice(x, labels, where=where, per_image=False))
    value, gradient = jax.jit(step)(logits)
    joined = [x.reshape(1, -1, *x.shape[2:]) for x in (logits, labels, where)]
    np.testing.assert_allclose(value, reference(*joined), rtol=1e-6)
    expected = slope(lambda x: reference(x.reshape(joined[0].shape), *joined[1:]), logits.astype(np.float64))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)
    assert abs(value - reference(logits, labels, where)) > 1e-3


def test_an_image_with_no_pixel_that_counts_contributes_zero(batch):
    logits, labels, where = batch
    half = dice(logits, labels, where=where & (np.arange(2) == 0)[:, None, None])
    np.testing.assert_allclose(half, reference(logits[:1], labels[:1], where[:1]) / 2, rtol=1e-6)


def test_extremes(batch):
    _, labels, where = batch
    right = jnp.asarray(1e4 * np.eye(C)[labels])
    np.testing.assert_allclose(dice(right, labels, where=where), 0, atol=1e-7)
    wrong = jnp.asarray(1e4 * np.eye(C)[(labels + 1) % 3])  # no overlap anywhere; the last class nowhere
    np.testing.assert_allclose(dice(wrong, labels, where=where), reference(np.asarray(wrong), labels, where), rtol=1e-6)


def test_a_class_predicted_where_there_is_none_is_punished():
    labels = np.zeros((1, 4, 4), int)
    wrong = jax.jit(dice)(jnp.asarray(100.0 * np.eye(2)[labels + 1]), labels)  # 16 pixels of class 1, all false
    np.testing.assert_allclose(wrong, 16 / 17, rtol=1e-6)


def test_smooth_must_be_positive(batch):
    logits, labels, _ = batch
    with pytest.raises(UserError, match="`smooth` must be positive, got 0"):
        dice(jnp.asarray(logits), jnp.asarray(labels), smooth=0)


def test_the_other_forms_are_their_definitions():
    logits, labels, where, many = make_batch()
    targets = np.eye(labels.max() + 2)[labels]

    def ratio(p, t, s=1.0, power=1):
        return (2 * (p * t).sum() + s) / ((p**power).sum() + (t**power).sum() + s)

    def squared(p, t):
        return 1 - ratio(p, t, power=2)

    check(
        {
            "squared": (
                lambda x: dice(x, labels, where=where, squared=True),
                lambda x: overlaps(squared, x, targets, where),
            ),
            "log": (
                lambda x: dice(x, labels, where=where, log=True, smooth=0.01),
                lambda x: overlaps(lambda p, t: -np.log(ratio(p, t, 0.01)), x, targets, where),
            ),
            "log-cosh": (
                lambda x: log_cosh_dice(x, labels, where=where, per_image=False),
                lambda x: np.log(np.cosh(overlaps(lambda p, t: 1 - ratio(p, t), x, targets, where, per_image=False))),
            ),
            "sigmoid": (
                lambda x: sigmoid_dice(x, many, where=where, smooth=0.1),
                lambda x: overlaps(lambda p, t: 1 - ratio(p, t, 0.1), x, many, where, activation=sigmoid),
            ),
            "sigmoid, squared": (
                lambda x: sigmoid_dice(x, labels, where=where, squared=True, per_image=False),
                lambda x: overlaps(squared, x, targets, where, activation=sigmoid, per_image=False),
            ),
        },
        logits,
    )


def test_log_cosh_of_a_small_loss_is_half_its_square():
    labels = jnp.zeros((1, 4, 4), int)
    near = 12.0 * jax.nn.one_hot(labels, 2)
    loss, log_cosh = jax.jit(lambda x: (dice(x, labels), log_cosh_dice(x, labels)))(near)
    assert 0 < loss < 1e-3
    np.testing.assert_allclose(log_cosh, np.float64(loss) ** 2 / 2, rtol=1e-6)


def generalized(logits, labels, where, power=2.0, smooth=1.0, per_image=True):
    """The definition, image by image, in float64; the weights are those of the paper over that of the rarest class."""
    if not per_image:
        logits, labels, where = (x.reshape(1, -1, *x.shape[3:]) for x in (logits, labels, where))
    values = []
    for p, y, counts in zip(softmax(logits), labels, where, strict=True):
        t = np.eye(p.shape[-1])[y][counts]
        sizes = t.sum(0)
        heaviest = max(1 / n**power for n in sizes if n)
        weights = [(1 / n**power if n else heaviest) / heaviest for n in sizes]
        both = 2 * (weights * (p[counts] * t).sum(0)).sum()
        values.append(1 - (both + smooth) / ((weights * (p[counts].sum(0) + sizes)).sum() + smooth))
    return np.mean(values)


def test_generalized_dice_is_its_definition():
    logits, labels, where, _ = make_batch()
    cases = ({}, {"per_image": False, "smooth": 0.1}, {"power": 1.0}, {"power": 0.0})
    losses = {}
    for options in cases:
        losses[str(options)] = (
            lambda x, o=options: generalized_dice(x, labels, where=where, **o),
            lambda x, o=options: generalized(x, labels, where, **o),
        )
    check(losses, logits)
    with pytest.raises(UserError, match="`power` must be >= 0, got -1"):
        generalized_dice(jnp.asarray(logits), jnp.asarray(labels), power=-1)


def test_generalized_dice_heeds_the_small_class():
    """All background, one pixel of 4,096 missed."""
    labels = np.zeros((1, 64, 64), int)
    labels[0, 5, 5] = 1
    nothing = jnp.asarray(20.0 * np.eye(2)[0 * labels], jnp.float32)
    loss, of_dice = jax.jit(lambda x: (generalized_dice(x, labels), dice(x, labels)))(nothing)
    assert loss > 0.49
    assert of_dice < 0.26
