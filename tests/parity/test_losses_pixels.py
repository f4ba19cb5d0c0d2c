"""Losses of single pixels against torch's, torchvision's, smp's and MONAI's: values, and gradients of the logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import losses

SHAPE, C = (2, 5, 7), 3
ALPHA = (0.5, 2.0, 1.0)


@pytest.fixture(scope="module")
def batch():
    """Logits, class ids, which pixels count, and labels of which many may hold."""
    rng = np.random.default_rng(3)
    logits = (2 * rng.normal(size=(*SHAPE, C))).astype(np.float32)
    return logits, rng.integers(0, C, SHAPE), rng.random(SHAPE) < 0.8, rng.random((*SHAPE, C)) < 0.4


def test_binary_cross_entropy(peers, compare_losses, to_torch, batch):
    """torch has no ignore label here: the pixels that count are picked."""
    logits, labels, where, many = batch
    torch, counts = peers.torch, peers.torch.from_numpy(where)
    y = to_torch(many.astype(np.float32)).movedim(1, -1)[counts]
    ids = torch.nn.functional.one_hot(torch.from_numpy(labels), C).float()[counts]

    def theirs(target, **options):
        bce = torch.nn.functional.binary_cross_entropy_with_logits
        return lambda x: bce(x.movedim(1, -1)[counts], target, **options)

    beta = 1 - many[where].mean(0)  # balanced: β and 1 - β are (1 - β)·(β / (1 - β), 1)
    weight, positive = (torch.tensor(x, dtype=torch.float32) for x in (1 - beta, beta / (1 - beta)))
    pairs = {
        "ids": (lambda x: losses.binary_cross_entropy(x, labels, where=where), theirs(ids)),
        "weighted": (
            lambda x: losses.binary_cross_entropy(x, many, where=where, beta=ALPHA),
            theirs(y, pos_weight=torch.tensor(ALPHA)),
        ),
        "balanced": (
            lambda x: losses.binary_cross_entropy(x, many, where=where, balanced=True),
            theirs(y, weight=weight, pos_weight=positive),
        ),
    }
    compare_losses(pairs, logits)


def test_balanced_cross_entropy(peers, compare_losses, batch):
    logits, labels, where, _ = batch
    weight = 1 / np.bincount(labels[where], minlength=C)
    y = peers.torch.from_numpy(np.where(where, labels, 255))
    options = {"ignore_index": 255, "weight": peers.torch.tensor(weight, dtype=peers.torch.float32)}
    pairs = {
        "balanced": (
            lambda x: losses.cross_entropy(x, labels, where=where, balanced=True, label_smoothing=0.1),
            lambda x: peers.torch.nn.functional.cross_entropy(x, y, label_smoothing=0.1, **options),
        )
    }
    compare_losses(pairs, logits)


def test_focal(peers, require, compare_losses, to_torch, batch):
    """MONAI divides its softmax form by the number of classes."""
    logits, labels, where, many = batch
    torch, smp = peers.torch, peers.smp.losses
    y, ignored = torch.from_numpy(labels), torch.from_numpy(np.where(where, labels, 255))
    all_of = to_torch(many.astype(np.float32))
    monai = require("monai.losses").FocalLoss
    vision = peers.torchvision.ops.sigmoid_focal_loss
    softmax_focal = smp._functional.softmax_focal_loss_with_logits
    pairs = {
        "torchvision": (
            lambda x: losses.sigmoid_focal(x, many),
            lambda x: vision(x, all_of, reduction="mean"),
        ),
        "torchvision, other options": (
            lambda x: losses.sigmoid_focal(x, many, alpha=None, gamma=1.5),
            lambda x: vision(x, all_of, alpha=-1, gamma=1.5, reduction="mean"),
        ),
        "smp, one against all": (
            lambda x: losses.sigmoid_focal(x, labels, where=where, alpha=0.7),
            lambda x: smp.FocalLoss("multiclass", alpha=0.7, ignore_index=255)(x, ignored),
        ),
        "smp, binary": (
            lambda x: losses.sigmoid_focal(x[..., :1], labels == 1, where=where, alpha=None, gamma=3),
            lambda x: smp.FocalLoss("binary", gamma=3, ignore_index=255)(
                x[:, :1], torch.where(ignored < 255, (ignored == 1) * 1, 255)
            ),
        ),
        "smp, softmax": (lambda x: losses.focal(x, labels), lambda x: softmax_focal(x, y)),
        "monai, softmax": (
            lambda x: losses.focal(x, labels, gamma=1.5, alpha=ALPHA) / C,
            lambda x: monai(gamma=1.5, alpha=ALPHA, use_softmax=True, to_onehot_y=True)(x, y[:, None]),
        ),
    }
    compare_losses(pairs, logits)


def test_where_focal_losses_differ(peers, require):
    """The numbers of docs/losses.md."""
    torch = peers.torch
    vision, smp = peers.torchvision.ops.sigmoid_focal_loss, peers.smp.losses.FocalLoss("binary", gamma=0.5)

    # A pixel that is surely right, and a root: the slope of x^0.5 at 0 is infinite, and times 0 it is nan.
    slope = jax.grad(lambda x: losses.sigmoid_focal(x, jnp.ones((1, 1, 1), int), gamma=0.5))
    assert slope(jnp.full((1, 1, 1, 1), 100.0)).item() == 0
    foreground = torch.ones(1, 1, 1, 1)
    for theirs in (lambda x: vision(x, foreground, gamma=0.5).mean(), lambda x: smp(x, foreground)):
        x = torch.full((1, 1, 1, 1), 100.0, requires_grad=True)
        theirs(x).backward()
        assert x.grad.isnan().all()

    # MONAI: an ignore label that no pixel has changes the loss by the number of classes.
    logits, labels = torch.zeros(1, 4, 2, 2), torch.tensor([[[[0, 1], [2, 3]]]])
    one_hot = torch.nn.functional.one_hot(labels[:, 0]).movedim(-1, 1).float()
    plain, ignoring = (require("monai.losses").FocalLoss(use_softmax=True, ignore_index=i) for i in (None, 255))
    ours = losses.focal(jnp.zeros((1, 2, 2, 4)), jnp.array([[[0, 1], [2, 3]]]))
    np.testing.assert_allclose(ours, 0.75**2 * np.log(4), rtol=1e-6)
    np.testing.assert_allclose(plain(logits, one_hot), ours / 4, rtol=1e-6)
    np.testing.assert_allclose(ignoring(logits, one_hot), ours, rtol=1e-6)
