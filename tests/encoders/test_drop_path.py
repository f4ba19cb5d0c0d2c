"""Stochastic depth: from no block at the image to `drop_path` at the last, whole images at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.encoders import create_encoder

RATE = 0.3


@pytest.mark.parametrize("name,blocks,each", [("mit_b0", 8, 2), ("convnext_tiny", 18, 1)])
def test_rates_grow_linearly(name, blocks, each):
    rates = []

    def note(call, arguments, keywords, context):
        if isinstance(context.module, nn.Dropout):
            assert context.module.broadcast_dims == (1, 2, 3)
            rates.append(context.module.rate)
        return call(*arguments, **keywords)

    def step(key):
        with nn.intercept_methods(note):
            encoder = create_encoder(name, drop_path=RATE)
            return encoder.init({"params": key, "dropout": key}, jnp.zeros((1, 64, 64, 3)), train=True)

    jax.eval_shape(step, jax.random.key(0))
    np.testing.assert_allclose(rates, np.repeat(np.linspace(0, RATE, blocks)[1:], each), rtol=1e-6)
