"""Region losses against smp's and MONAI's, where the definitions agree: values, and gradients of the logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import losses

SHAPE, C = (2, 5, 7), 3


@pytest.fixture(scope="module")
def batch():
    """Logits, class ids (both images have all classes), which pixels count, and labels of which many may hold."""
    rng = np.random.default_rng(3)
    logits = (2 * rng.normal(size=(*SHAPE, C))).astype(np.float32)
    return logits, rng.integers(0, C, SHAPE), rng.random(SHAPE) < 0.8, rng.random((*SHAPE, C)) < 0.4


def test_overlaps_of_smp(peers, compare_losses, to_torch, batch):
    """smp sums over the batch and skips absent classes: all classes are there, and the batch is one image."""
    logits, labels, where, many = batch
    theirs, torch = peers.smp.losses, peers.torch
    y = torch.from_numpy(np.where(where, labels, 255))
    one = torch.from_numpy(np.where(where, labels == 1, 255)[:, None])
    all_of = torch.from_numpy(np.moveaxis(np.where(where[..., None], many, 255), -1, 1))
    options = {"where": where, "per_image": False}
    ignore = {"smooth": 1.0, "ignore_index": 255}
    prices = {"alpha": 0.3, "beta": 0.7}

    def multiclass(peer, **kwargs):
        return lambda x: peer("multiclass", **{**ignore, **kwargs})(x, y)

    def multilabel(peer, **kwargs):
        return lambda x: peer("multilabel", **{**ignore, **kwargs})(x, all_of)

    def binary(peer, **kwargs):
        return lambda x: peer("binary", **{**ignore, **kwargs})(x[:, :1], one)

    pairs = {
        "jaccard": (lambda x: losses.jaccard(x, labels, **options), multiclass(theirs.JaccardLoss)),
        "log jaccard": (
            lambda x: losses.jaccard(x, labels, log=True, **options),
            multiclass(theirs.JaccardLoss, log_loss=True),
        ),
        "log dice": (
            lambda x: losses.dice(x, labels, log=True, **options),
            multiclass(theirs.DiceLoss, log_loss=True, smooth=0.5),
        ),
        "tversky": (lambda x: losses.tversky(x, labels, **options), multiclass(theirs.TverskyLoss, **prices)),
        "dice, many labels": (
            lambda x: losses.sigmoid_dice(x, many, **options),
            multilabel(theirs.DiceLoss, smooth=0.5),
        ),
        "jaccard, many labels": (
            lambda x: losses.sigmoid_jaccard(x, many, log=True, **options),
            multilabel(theirs.JaccardLoss, log_loss=True),
        ),
        "tversky, one class": (
            lambda x: losses.sigmoid_tversky(x[..., :1], labels, **options),
            binary(theirs.TverskyLoss, **prices),
        ),
    }
    compare_losses(pairs, logits)


def test_overlaps_of_monai(peers, require, compare_losses, to_torch, batch):
    """MONAI has images apart, as we have; nothing is ignored."""
    monai, (logits, labels, _, many) = require("monai.losses"), batch
    y = peers.torch.from_numpy(labels[:, None])
    all_of = to_torch(many.astype(np.float32))
    softmax = {"softmax": True, "to_onehot_y": True, "smooth_nr": 1.0, "smooth_dr": 1.0}
    sigmoid = {**softmax, "softmax": False, "to_onehot_y": False, "sigmoid": True}
    jaccard = {"jaccard": True, "smooth_nr": 2.0, "smooth_dr": 2.0}  # it doubles the ratio
    exact = {"smooth_nr": 0.0, "smooth_dr": 0.0}  # in its weights' units; ours is in pixels of the rarest class
    pairs = {
        "dice": (lambda x: losses.dice(x, labels), lambda x: monai.DiceLoss(**softmax)(x, y)),
        "squared dice": (
            lambda x: losses.dice(x, labels, squared=True, per_image=False),
            lambda x: monai.DiceLoss(**softmax, squared_pred=True, batch=True)(x, y),
        ),
        "squared dice, many labels": (
            lambda x: losses.sigmoid_dice(x, many, squared=True),
            lambda x: monai.DiceLoss(**sigmoid, squared_pred=True)(x, all_of),
        ),
        "jaccard": (lambda x: losses.jaccard(x, labels), lambda x: monai.DiceLoss(**{**softmax, **jaccard})(x, y)),
        "tversky": (
            lambda x: losses.tversky(x, labels),
            lambda x: monai.TverskyLoss(alpha=0.3, beta=0.7, **softmax)(x, y),
        ),
        "generalized dice": (
            lambda x: losses.generalized_dice(x, labels, smooth=1e-6),
            lambda x: monai.GeneralizedDiceLoss(**{**softmax, **exact})(x, y),
        ),
        "generalized dice of the batch, simple weights": (
            lambda x: losses.generalized_dice(x, labels, smooth=1e-6, power=1, per_image=False),
            lambda x: monai.GeneralizedDiceLoss(**{**softmax, **exact}, w_type="simple", batch=True)(x, y),
        ),
        "correlation": (
            lambda x: losses.mcc(x[..., :2], labels % 2, smooth=1e-6),
            lambda x: monai.MCCLoss(**{**softmax, **exact})(x[:, :2], y % 2),
        ),
    }
    compare_losses(pairs, logits)


def test_correlation_of_smp_and_scikit_learn(peers, require, compare_losses, batch):
    """smp's is binary; its `eps` goes into all four sums. scikit-learn's has any number of classes, of hard labels."""
    logits, labels, where, _ = batch
    foreground = peers.torch.from_numpy((labels == 1)[:, None].astype(np.float32))

    def ours(x):
        return losses.mcc(jnp.stack([0 * x[..., 0], x[..., 0]], -1), (labels == 1) * 1, smooth=1e-6, per_image=False)

    theirs = peers.smp.losses.MCCLoss(eps=1e-6)
    compare_losses({"two classes": (ours, lambda x: theirs(peers.torch.sigmoid(x[:, :1]), foreground))}, logits)
    hard = 1e4 * jax.nn.one_hot(logits.argmax(-1), C)
    value = losses.mcc(hard, jnp.asarray(labels), where=where, smooth=1e-6, per_image=False)
    expected = require("sklearn.metrics").matthews_corrcoef(labels[where], logits.argmax(-1)[where])
    np.testing.assert_allclose(value, 1 - expected, rtol=1e-6)


def test_where_overlaps_differ(peers, require, to_torch):
    """The numbers of docs/losses.md."""
    torch, smp, monai = peers.torch, peers.smp.losses, require("monai.losses")
    softmax = {"softmax": True, "to_onehot_y": True}
    board, empty = np.indices((1, 8, 8)).sum(0) % 2, np.zeros((1, 8, 8), int)
    half = np.repeat(np.arange(2), 256 * 512).reshape(1, 512, 512)
    near, wrong, unsure = 9.0 * np.eye(2)[board], 100.0 * np.eye(2)[1 - half], np.zeros((1, 8, 8, 2))
    full = np.full((1, 8, 8, 1), 100.0)

    @jax.jit
    def ours(near, wrong, full, unsure, board, half, empty):
        value, slope = jax.value_and_grad(losses.mcc)(unsure, empty)
        values = losses.jaccard(near, board), losses.generalized_dice(wrong, half), losses.sigmoid_jaccard(full, empty)
        return *values, value, jnp.abs(slope).max()

    def theirs(loss, scores, labels):
        x = to_torch(scores.astype(np.float32)).requires_grad_(True)
        value = loss(x, torch.from_numpy(labels)[:, None])
        value.backward()
        return value.item(), float(x.grad.abs().max())

    jaccard, generalized, no_object, correlation, slope = map(
        float, ours(near, wrong, full, unsure, board, half, empty)
    )
    # Nearly all right: 1 - ratio has lost three digits or four, what is wrong over what there is has lost none.
    p = np.exp(-9.0) / (1 + np.exp(-9.0))
    np.testing.assert_allclose(jaccard, 32 * p / (32 * (1 + p) + 1) * 2, rtol=1e-6)
    of_smp = theirs(lambda x, y: smp.JaccardLoss("multiclass", smooth=1.0)(x, y[:, 0]), near, board)[0]
    twice = {"jaccard": True, "smooth_nr": 2.0, "smooth_dr": 2.0}
    of_monai = theirs(monai.DiceLoss(**softmax, **twice), near, board)[0]
    assert min(abs(of_smp / jaccard - 1), abs(of_monai / jaccard - 1)) > 1e-5

    # All wrong: MONAI's 1e-5 in the units of 1 / pixels² is a quarter of the sum on an image of 512².
    assert generalized > 0.99999
    np.testing.assert_allclose(theirs(monai.GeneralizedDiceLoss(**softmax), wrong, half)[0], 0.753, atol=1e-3)

    # Nothing there and everything predicted: smp leaves absent classes out.
    np.testing.assert_allclose(no_object, 64 / 65, rtol=1e-6)
    assert theirs(smp.JaccardLoss("binary"), full, empty) == (0, 0)

    # An image of background teaches nothing by itself: the coefficient is undefined there.
    assert slope > 9e-4
    np.testing.assert_allclose(correlation, 0.876, atol=1e-3)
    of_smp = theirs(lambda x, y: smp.MCCLoss()(x.softmax(1)[:, 1:], y.float()), unsure, empty)
    of_monai = theirs(monai.MCCLoss(**softmax), unsure, empty)
    assert of_smp[0] == of_monai[0] == 1
    assert max(of_smp[1], of_monai[1]) < 1e-5
