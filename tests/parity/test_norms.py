"""The norms against PyTorch's, in training, at ordinary means and at means far from zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks.conv import BatchNorm, GroupNorm
from jaxseg.blocks.layer_norm import LayerNorm


@pytest.mark.parametrize("mean, deviation, limit", [(0.5, 2.0, 1e-5), (1000.0, 0.1, 4e-3)])
@pytest.mark.parametrize("name", ["batch", "group", "layer"])
def test_norm(peers, to_torch, name, mean, deviation, limit):
    """At mean 1000 both are some 1e-3 from the exact result; before, the deviation itself was wrong by a factor."""
    nn = peers.torch.nn
    ours, theirs = {
        "batch": (BatchNorm(), nn.BatchNorm2d(8)),
        "group": (GroupNorm(groups=4), nn.GroupNorm(4, 8)),
        "layer": (LayerNorm(), nn.LayerNorm(8)),
    }[name]
    x = (mean + deviation * np.random.default_rng(0).normal(size=(2, 17, 20, 8))).astype(np.float32)
    variables = ours.init(jax.random.key(0), jnp.asarray(x), train=False)
    y, updates = ours.apply(variables, jnp.asarray(x), train=True, mutable=["batch_stats"])
    if name == "layer":
        expected = theirs(peers.torch.from_numpy(x)).detach().numpy()
    else:
        expected = theirs(to_torch(x)).detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(y, expected, atol=limit)
    if name == "batch":
        np.testing.assert_allclose(updates["batch_stats"]["mean"], theirs.running_mean.numpy(), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(updates["batch_stats"]["var"], theirs.running_var.numpy(), rtol=1e-6)
