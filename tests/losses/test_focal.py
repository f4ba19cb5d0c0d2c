from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses import binary_cross_entropy, cross_entropy
from jaxseg.losses.focal import focal, sigmoid_focal
from tests.losses.test_regions import C, check, make_batch, sigmoid

ALPHA = (0.5, 2.0, 1.0)


def reference(logits, labels, where, gamma=2.0, alpha=(1.0,) * C):
    """The definition, pixel by pixel, in float64."""
    values = []
    for pixel in zip(*np.nonzero(where), strict=True):
        log_p = logits[pixel] - np.logaddexp.reduce(logits[pixel])
        y = labels[pixel]
        others = np.exp(np.delete(log_p, y)).sum()
        values.append(-alpha[y] * others**gamma * log_p[y])
    return np.mean(values)


def sigmoid_reference(logits, targets, where, gamma=2.0, alpha=0.25):
    p = sigmoid(logits)
    positive = -alpha * (1 - p) ** gamma * np.log(p)
    negative = -(1 - alpha) * p**gamma * np.log(1 - p)
    return np.mean(np.where(targets, positive, negative)[where])


def test_values_and_gradients_are_the_definition():
    logits, labels, where, many = make_batch()
    one = many[..., :1]
    check(
        {
            "plain": (
                lambda x: focal(x, labels, where=where),
                lambda x: reference(x, labels, where),
            ),
            "a root": (
                lambda x: focal(x, labels, where=where, gamma=0.5, alpha=ALPHA),
                lambda x: reference(x, labels, where, 0.5, ALPHA),
            ),
            "sigmoid, ids": (
                lambda x: sigmoid_focal(x, labels, where=where),
                lambda x: sigmoid_reference(x, np.eye(C)[labels] == 1, where),
            ),
            "sigmoid, many labels": (
                lambda x: sigmoid_focal(x, many, where=where, gamma=0.5, alpha=None),
                lambda x: 2 * sigmoid_reference(x, many, where, 0.5, 0.5),
            ),
            "sigmoid, one class": (
                lambda x: sigmoid_focal(x[..., :1], one[..., 0], where=where, gamma=3, alpha=0.8),
                lambda x: sigmoid_reference(x[..., :1], one, where, 3, 0.8),
            ),
        },
        logits,
    )


def test_without_focus_it_is_cross_entropy():
    logits, labels, where, many = make_batch()

    @jax.jit
    def pairs(x):
        return (
            (focal(x, labels, where=where, gamma=0), cross_entropy(x, labels, where=where)),
            (sigmoid_focal(x, many, where=where, gamma=0, alpha=None), binary_cross_entropy(x, many, where=where)),
        )

    for one, other in pairs(logits):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_sure_pixels_keep_their_digits_and_a_finite_slope():
    labels = np.array([[[0, 1, 2]]])
    gammas = (0.0, 0.5, 2.0)
    step = jax.jit(lambda x, y: [jax.value_and_grad(lambda x, g=g: focal(x, y, gamma=g))(x) for g in gammas])
    for scale in (9.0, 1e4):
        logits = (scale * np.eye(C)[labels]).astype(np.float32)
        for wrong in (False, True):
            y = (labels + wrong) % C
            for gamma, (value, gradient) in zip(gammas, step(logits, y), strict=True):
                expected = reference(logits.astype(np.float64), y, y >= 0, gamma)
                np.testing.assert_allclose(value, expected, rtol=1e-6)
                assert np.isfinite(gradient).all()


def test_wrong_options_are_named():
    logits, labels = jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 1, 1), int)
    for loss, options, message in (
        (focal, {"gamma": -1}, "`gamma` must be >= 0, got -1"),
        (focal, {"alpha": (1.0, 2.0, 3.0)}, "`alpha` must hold one number for each of the 2 classes"),
        (sigmoid_focal, {"gamma": -1}, "`gamma` must be >= 0, got -1"),
        (sigmoid_focal, {"alpha": 2}, r"`alpha` must be in \[0, 1\] or None, got 2"),
    ):
        with pytest.raises(UserError, match=message):
            jax.eval_shape(partial(loss, **options), logits, labels)
