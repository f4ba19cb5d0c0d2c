"""Losses against PyTorch's and smp's, where the definitions agree: values, and gradients with respect to the logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.losses import cross_entropy, dice

SHAPE, C = (2, 7, 9), 6


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, C, SHAPE)
    return (4 * rng.normal(size=(*SHAPE, C))).astype(np.float32), np.where(rng.random(SHAPE) < 0.2, 255, labels)


def both(peers, to_torch, ours, theirs, logits, labels):
    """(value, gradient) of each side."""
    value, gradient = jax.jit(jax.value_and_grad(ours))(logits)
    x = to_torch(logits).requires_grad_(True)
    loss = theirs(x, peers.torch.from_numpy(labels))
    loss.backward()
    return (value, gradient), (loss.item(), np.moveaxis(x.grad.numpy(), 1, -1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 0.0, 1.0, 3.0, 0.25)], ids=["", "weighted"])
def test_cross_entropy(peers, to_torch, batch, weights, smoothing):
    logits, labels = batch
    where = labels != 255
    weight = None if weights is None else peers.torch.tensor(weights)

    def ours(x):
        return cross_entropy(x, jnp.asarray(labels), where=where, class_weights=weights, label_smoothing=smoothing)

    def theirs(x, y):
        return peers.torch.nn.functional.cross_entropy(x, y, ignore_index=255, weight=weight, label_smoothing=smoothing)

    (value, gradient), (expected, expected_gradient) = both(peers, to_torch, ours, theirs, logits, labels)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-9)


def test_dice_of_one_image_with_every_class(peers, to_torch, batch):
    """smp sums over the batch and skips absent classes; with one image and no absent class the two are one loss.

    Its `smooth` is added to half of our numerator and denominator.
    """
    logits, labels = (x[:1] for x in batch)
    where = labels != 255
    assert set(labels[where]) == set(range(C))
    theirs = peers.smp.losses.DiceLoss("multiclass", smooth=0.5, ignore_index=255)
    (value, gradient), (expected, expected_gradient) = both(
        peers, to_torch, lambda x: dice(x, jnp.asarray(labels), where=where, smooth=1.0), theirs, logits, labels
    )
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-8)
