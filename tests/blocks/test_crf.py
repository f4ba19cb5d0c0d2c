"""The CRF as a layer: its wiring, its gradients, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_vjp

from jaxseg.blocks.crf import CRF, crf
from jaxseg.ops.meanfield import dense_crf

H, W, C = 4, 5, 3
LABEL = np.indices((H, W)).sum(0) // 3
LAYER = CRF(iterations=2, spatial_sigma=1.0, bilateral_weight=2.0, bilateral_sigma=4.0, color_sigma=30.0)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    image = (np.array([[200, 40, 40], [40, 180, 60], [60, 60, 160]])[LABEL] + rng.integers(0, 20, (H, W, 3)))[None]
    image = jnp.asarray(image)
    logits = jnp.asarray((np.eye(C)[LABEL] + rng.normal(0, 0.7, (H, W, C)))[None], jnp.float32)
    params = LAYER.init(jax.random.key(0), jnp.zeros((1, 1, 1, C)), jnp.zeros((1, 1, 1, 3)))["params"]

    def loss(params, logits):
        scores = LAYER.apply({"params": params}, logits, image)
        return optax.softmax_cross_entropy_with_integer_labels(scores, LABEL[None]).mean()

    return params, logits, image, loss


def test_wiring():
    logits = jnp.arange(6.0).reshape(1, 2, 3)
    kernels = [lambda q: q, lambda q: 10 * q]
    found = crf(logits, kernels, weigh=sum, compatibility=lambda x: -x, iterations=1)
    np.testing.assert_allclose(found, logits + 11 * jax.nn.softmax(logits), rtol=1e-6)


def test_gradients(case):
    """What `check_grads` checks in reverse mode, with two programs that compile fast."""
    params, logits, _, loss = case
    slope = jax.jit(jax.value_and_grad(loss, (0, 1)))

    def vjp(*arguments):
        value, gradient = slope(*arguments)
        return value, lambda back: jax.tree.map(lambda g: back * g, gradient)

    value = jax.jit(loss)
    check_vjp(value, vjp, (params, logits), eps=1e-2, rtol=2e-2, atol=2e-3)


def test_starts_as_the_potts_model_and_learns(case):
    params, logits, image, loss = case
    assert {k: v.shape for k, v in params.items()} == {
        "spatial_weights": (C,),
        "bilateral_weights": (C,),
        "compatibility": (C, C),
    }
    optimizer = optax.adam(0.1)

    def train(params):
        def step(carry, _):
            params, state = carry
            value, gradient = jax.value_and_grad(loss)(params, logits)
            with jax.numpy_dtype_promotion("standard"):  # optax counts its steps in whole numbers
                update, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, update), state), value

        return jax.lax.scan(step, (params, optimizer.init(params)), length=40)[1]

    def potts(logits):
        widths = dict(spatial_sigma=1.0, bilateral_weight=2.0, bilateral_sigma=4.0, color_sigma=30.0)
        return dense_crf(logits, image, iterations=2, **widths)

    losses = jax.jit(train)(params)
    scores = jax.jit(potts)(logits)
    start = optax.softmax_cross_entropy_with_integer_labels(scores, LABEL[None]).mean()
    np.testing.assert_allclose(losses[0], start, rtol=1e-5)
    assert losses[-1] < 0.5 * losses[0]
