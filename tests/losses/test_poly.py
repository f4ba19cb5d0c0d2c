from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.checks import UserError
from jaxseg.losses import cross_entropy
from jaxseg.losses.poly import poly_cross_entropy
from tests.losses.test_regions import C, check, make_batch

WEIGHTS = (0.5, 2.0, 1.0)


def reference(logits, labels, where, epsilon=1.0, weights=(1.0,) * C):
    """The definition, pixel by pixel, in float64."""
    total = weight = 0.0
    for pixel in zip(*np.nonzero(where), strict=True):
        log_p = (logits[pixel] - np.logaddexp.reduce(logits[pixel]))[labels[pixel]]
        u = weights[labels[pixel]]
        total += u * (epsilon * (1 - np.exp(log_p)) - log_p)
        weight += u
    return total / weight


def test_values_and_gradients_are_the_definition():
    logits, labels, where, _ = make_batch()
    check(
        {
            "plain": (lambda x: poly_cross_entropy(x, labels, where=where), lambda x: reference(x, labels, where)),
            "less, by class": (
                lambda x: poly_cross_entropy(x, labels, where=where, epsilon=-1.0, class_weights=WEIGHTS),
                lambda x: reference(x, labels, where, -1.0, WEIGHTS),
            ),
        },
        logits,
    )


def test_it_is_optaxs_and_without_epsilon_cross_entropy():
    logits, labels, where, _ = (jnp.asarray(x) for x in make_batch())
    for epsilon in (-1.0, 2.0):
        pixels = optax.losses.poly_loss_cross_entropy(logits, jax.nn.one_hot(labels, C), epsilon=epsilon)
        ours = poly_cross_entropy(logits, labels, where=where, epsilon=epsilon)
        np.testing.assert_allclose(ours, pixels[where].mean(), rtol=1e-6)
    ours = poly_cross_entropy(logits, labels, where=where, epsilon=0, class_weights=WEIGHTS)
    np.testing.assert_allclose(ours, cross_entropy(logits, labels, where=where, class_weights=WEIGHTS), rtol=1e-6)


def test_wrong_options_are_named():
    logits, labels = jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 1, 1), int)
    for options, message in (
        ({"epsilon": -1.5}, "`epsilon` must be >= -1, got -1.5"),
        ({"class_weights": (1.0,)}, "`class_weights` must hold one number for each of the 2 classes"),
    ):
        with pytest.raises(UserError, match=message):
            jax.eval_shape(partial(poly_cross_entropy, **options), logits, labels)
