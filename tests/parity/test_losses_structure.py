"""Lovász, clDice, distillation and the sum over heads against smp, MONAI and PyTorch: values, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import losses
from tests.losses.test_lovasz import hinge_reference

SHAPE, C = (2, 5, 7), 2


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(3)
    logits = (2 * rng.normal(size=(*SHAPE, C))).astype(np.float32)
    return logits, rng.integers(0, C, SHAPE), rng.random(SHAPE) < 0.8


def test_every_definition_that_agrees(peers, require, compare_losses, batch):
    """MONAI adds 1e-4 under clDice's harmonic mean, which is taken away here."""
    logits, labels, where = batch
    torch, nn, lovasz = peers.torch, peers.torch.nn.functional, peers.smp.losses.LovaszLoss
    y, ignored = torch.from_numpy(labels), torch.from_numpy(np.where(where, labels, 255))
    cldice = require("monai.losses").SoftclDiceLoss
    teacher = logits[::-1].copy()
    other = torch.from_numpy(np.moveaxis(teacher, -1, 1)).contiguous()
    heads = {"logits": 1, "a": 0.5, "b": 0.25}
    deep = require("monai.losses").DeepSupervisionLoss(lambda x, y: nn.cross_entropy(x, y[:, 0]), weight_mode="exp")

    def all_heads(x):
        outputs = {"logits": x, "a": 2 * x, "b": x * x}
        return losses.weighted_sum(outputs, labels, None, terms={"cross_entropy": 1}, heads=heads, options={})[0]

    def spread(x):  # the pixels are the classes of PyTorch's divergence
        p, q = ((z / 4).flatten(2).log_softmax(2) for z in (x, other))
        return 16 / (SHAPE[0] * C) * nn.kl_div(p, q, reduction="sum", log_target=True)

    def kl(x):
        p, q = ((z / 4).log_softmax(1) for z in (x, other))
        return 16 / labels.size * nn.kl_div(p, q, reduction="sum", log_target=True)

    pairs = {
        "lovasz": (
            lambda x: losses.lovasz_softmax(x, labels, where=where),
            lambda x: lovasz("multiclass", ignore_index=255)(x, ignored),
        ),
        "hinge": (
            lambda x: losses.lovasz_hinge(x[..., :1], labels, where=where),
            lambda x: lovasz("binary", ignore_index=255)(x[:, :1], ignored),
        ),
        "cldice": (
            lambda x: losses.soft_cldice(x, labels, iterations=1),
            lambda x: cldice(1, smooth=1e-12, include_background=False, softmax=True, to_onehot_y=True)(x, y[:, None]),
        ),
        "distillation": (lambda x: losses.distillation(x, jnp.asarray(teacher), temperature=4.0), kl),
        "distillation, channels": (lambda x: losses.channel_wise_distillation(x, jnp.asarray(teacher)), spread),
        "heads": (all_heads, lambda x: deep([x, 2 * x, x * x], y[:, None])),
    }
    compare_losses(pairs, logits)


def test_smp_loses_lovasz_where_nothing_counts(peers, to_torch, batch):
    """Its loss is then an empty tensor, which nothing can be trained with; with one empty image of two it fails."""
    logits, labels, where = batch
    none = peers.torch.full(SHAPE, 255)
    assert peers.smp.losses.LovaszLoss("multiclass", ignore_index=255)(to_torch(logits), none).shape == (0, C)
    first = where & (np.arange(2) == 0)[:, None, None]
    half = peers.torch.from_numpy(np.where(first, labels, 255))
    with pytest.raises(RuntimeError, match="broadcast shape"):
        peers.smp.losses.LovaszLoss("multiclass", per_image=True, ignore_index=255)(to_torch(logits), half)
    step = jax.jit(lambda w: losses.lovasz_softmax(jnp.asarray(logits), jnp.asarray(labels), where=w, per_image=True))
    assert step(np.zeros(SHAPE, bool)) == 0
    assert 0 < step(first) < 1


def test_smp_takes_many_labels_for_one_map(peers, to_torch, batch):
    """Its multilabel Lovász hinge has one IoU of all classes' pixels together; ours is the mean of the classes'."""
    logits, labels, _ = batch
    many = np.stack([labels == 1, np.zeros(SHAPE, bool)], axis=-1)  # the second class is nowhere
    target = peers.torch.from_numpy(np.moveaxis(many, -1, 1)).long()
    theirs = peers.smp.losses.LovaszLoss("multilabel")(to_torch(logits), target).item()
    ours = jax.jit(losses.lovasz_hinge)(logits, many)
    np.testing.assert_allclose(ours, hinge_reference(logits, many, np.ones(SHAPE, bool), False, False), rtol=1e-6)
    assert abs(theirs - ours) > 0.1


def test_monai_charges_for_a_perfect_middle_line(peers, require, to_torch, batch):
    _, labels, _ = batch
    logits = 50 * np.eye(C, dtype=np.float32)[labels]
    y = peers.torch.from_numpy(labels[:, None])
    theirs = require("monai.losses").SoftclDiceLoss(include_background=False, softmax=True, to_onehot_y=True)
    np.testing.assert_allclose(theirs(to_torch(logits), y).item(), 5e-5, rtol=0.01)
    assert jax.jit(lambda x: losses.soft_cldice(x, labels, iterations=1))(logits) < 1e-9
