from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses.binary_cross_entropy import binary_cross_entropy
from tests.losses.test_regions import C, check, make_batch


def reference(logits, targets, where, positive=(1.0,) * C, negative=(1.0,) * C):
    """The definition, question by question, in float64."""
    values = []
    for pixel in zip(*np.nonzero(where), strict=True):
        for k in range(logits.shape[-1]):
            right = targets[pixel][k]
            log_p = -np.logaddexp(0, -logits[pixel][k] if right else logits[pixel][k])
            values.append(-(positive if right else negative)[k] * log_p)
    return np.mean(values)


def test_values_and_gradients_are_the_definition():
    logits, labels, where, many = make_batch()
    hot, share = np.eye(C)[labels], many[where].mean(0)
    check(
        {
            "ids": (
                lambda x: binary_cross_entropy(x, labels, where=where),
                lambda x: reference(x, hot, where),
            ),
            "weighted": (
                lambda x: binary_cross_entropy(x, many, where=where, beta=3),
                lambda x: reference(x, many, where, (3.0,) * C),
            ),
            "weighted by class": (
                lambda x: binary_cross_entropy(x, many, where=where, beta=(1.0, 2.0, 5.0)),
                lambda x: reference(x, many, where, (1.0, 2.0, 5.0)),
            ),
            "balanced": (
                lambda x: binary_cross_entropy(x, many, where=where, balanced=True),
                lambda x: reference(x, many, where, 1 - share, share),
            ),
        },
        logits,
    )


def test_extreme_scores():
    logits, _, where, many = make_batch()
    loss = jax.jit(lambda x: binary_cross_entropy(x, many, where=where))
    for scale in (1e4, -1e4):
        scores = (logits * scale).astype(np.float32)
        np.testing.assert_allclose(loss(scores), reference(scores.astype(np.float64), many, where), rtol=1e-6)


def test_balanced_with_one_side_alone_has_no_say():
    logits, labels, where, _ = make_batch()
    step = jax.jit(jax.value_and_grad(lambda x: binary_cross_entropy(x, 0 * labels, where=where, balanced=True)))
    value, gradient = step(logits)
    assert value == 0
    assert not gradient.any()


def test_wrong_options_are_named():
    logits, labels = jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 1, 1), int)
    for options, message in (
        ({"beta": 2, "balanced": True}, "`beta` must be None, got 2"),
        ({"beta": (1.0, 2.0, 3.0)}, "`beta` must hold one number for each of the 2 classes"),
    ):
        with pytest.raises(UserError, match=message):
            jax.eval_shape(partial(binary_cross_entropy, **options), logits, labels)
