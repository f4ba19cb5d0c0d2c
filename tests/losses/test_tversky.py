import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.losses import dice, jaccard
from jaxseg.losses.tversky import focal_tversky, sigmoid_tversky, tversky
from tests.losses.test_regions import C, check, make_batch, overlaps, sigmoid


def test_values_and_gradients_are_the_definition():
    logits, labels, where, many = make_batch()
    targets = np.eye(C)[labels]

    def formula(alpha=0.3, beta=0.7, gamma=1.0, s=1.0):
        def loss(p, t):
            right = (p * t).sum() + s
            return (1 - right / (right + alpha * (p * (1 - t)).sum() + beta * ((1 - p) * t).sum())) ** (1 / gamma)

        return loss

    check(
        {
            "images": (
                lambda x: tversky(x, labels, where=where),
                lambda x: overlaps(formula(), x, targets, where),
            ),
            "batch": (
                lambda x: tversky(x, labels, where=where, alpha=0.9, beta=0.2, smooth=0.1, per_image=False),
                lambda x: overlaps(formula(0.9, 0.2, s=0.1), x, targets, where, per_image=False),
            ),
            "sigmoid": (
                lambda x: sigmoid_tversky(x, many, where=where, alpha=0.9, beta=0.2),
                lambda x: overlaps(formula(0.9, 0.2), x, many, where, activation=sigmoid),
            ),
            "focal": (
                lambda x: focal_tversky(x, labels, where=where, gamma=2.0, smooth=0.1),
                lambda x: overlaps(formula(gamma=2.0, s=0.1), x, targets, where),
            ),
            "focal, batch": (
                lambda x: focal_tversky(x, labels, where=where, per_image=False),
                lambda x: overlaps(formula(gamma=4 / 3), x, targets, where, per_image=False),
            ),
        },
        logits,
    )


def test_dice_and_jaccard_are_special_cases():
    logits, labels, where, _ = make_batch()

    @jax.jit
    def pairs(x):
        y = jnp.asarray(labels)
        return (
            (tversky(x, y, where=where, alpha=0.5, beta=0.5, smooth=0.5), dice(x, y, where=where, smooth=1.0)),
            (tversky(x, y, where=where, alpha=1, beta=1), jaccard(x, y, where=where)),
            (focal_tversky(x, y, where=where, gamma=1.0), tversky(x, y, where=where)),
        )

    for one, other in pairs(logits):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_class_that_is_all_right_has_a_finite_slope():
    """The slope of x^(3/4) at 0 is infinite."""
    labels = jnp.zeros((1, 2, 2), int)
    sure = 1e4 * jax.nn.one_hot(labels, 2)
    value, gradient = jax.jit(jax.value_and_grad(focal_tversky))(sure, labels)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("alpha, beta", [(-0.1, 0.5), (0.5, -0.1), (0.0, 0.0), (float("nan"), 1.0)])
def test_wrong_prices_are_named(alpha, beta):
    logits, labels = jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 1, 1), int)
    for loss in (tversky, sigmoid_tversky, focal_tversky):
        with pytest.raises(UserError, match="`alpha` and `beta` must be >= 0 and not both 0"):
            loss(logits, labels, alpha=alpha, beta=beta)
    with pytest.raises(UserError, match="`gamma` must be positive, got 0"):
        focal_tversky(logits, labels, gamma=0)
