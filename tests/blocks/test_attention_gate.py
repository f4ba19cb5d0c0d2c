"""The attention gate: its figure with lambdas, its numbers by loops in float64, and where it sits in the decoder."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.blocks.attention_gate import AttentionGate, attention_gate
from jaxseg.models.attention_unet import climb_gated

X = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)


def halve(x):
    return x[:, ::2, ::2]


def test_a_gate_weighs_the_skip_by_the_sum_of_both():
    seen = []
    y = attention_gate(
        X,
        jnp.full((1, 1, 1, 1), 5.0),
        key=halve,
        query=lambda x: -2 * x,
        weigh=lambda x: seen.append(x) or x * 0 + 4,
        gate=lambda x: x + 3,
    )
    np.testing.assert_array_equal(seen[0].ravel(), [0, 0, 0, 1])  # relu of 1, 3, 9, 11 less 10
    np.testing.assert_array_equal(y, 7 * X)


def by_loops(params, skip, signal):
    """The gate of one image of odd size, whose signal has half its size, rounded up; at the centers of the cells."""
    (height, width, _), (rows, columns, _) = skip.shape, signal.shape
    weights = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            total = params["query"]["bias"] + signal[i, j] @ params["query"]["kernel"][0, 0]
            for k, m in np.ndindex(2, 2):
                if 2 * i + k < height and 2 * j + m < width:
                    total = total + skip[2 * i + k, 2 * j + m] @ params["key"]["kernel"][k, m]
            score = params["weigh"]["bias"] + np.maximum(total, 0) @ params["weigh"]["kernel"][0, 0]
            weights[i, j] = 1 / (1 + np.exp(-score.item()))
    ys, xs = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in ((height, rows), (width, columns)))
    down = np.array([np.interp(ys, np.arange(rows), column) for column in weights.T]).T
    large = np.array([np.interp(xs, np.arange(columns), row) for row in down])
    return weights, skip * large[..., None]


def test_the_gate_computes_equations_1_and_2_at_odd_sizes():
    random = np.random.default_rng(0)
    skip, signal = random.normal(size=(5, 7, 3)), random.normal(size=(3, 4, 2))
    module = AttentionGate(features=4)
    inputs = [jnp.asarray(x[None], jnp.float32) for x in (skip, signal)]
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs))["params"]
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), shapes)
    narrow = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    y, shown = module.apply({"params": narrow}, *inputs, mutable=["intermediates"])
    weights, expected = by_loops(params, skip, signal)
    np.testing.assert_allclose(y[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(shown["intermediates"]["attention"][0][0, ..., 0], weights, rtol=1e-5)


def test_the_gate_sees_the_decoder_before_it_is_enlarged():
    seen = []

    def gate(skip, x):
        seen.append((skip.shape[1], x.shape[1]))
        return 10 * skip

    y = climb_gated(
        jnp.ones((1, 1, 1, 1)),
        [jnp.full((1, 2, 2, 1), 3.0), jnp.full((1, 4, 4, 1), 5.0), None],
        [(2, 2), (4, 4), (8, 8)],
        gates=[gate, None, None],
        blocks=[jnp.add, jnp.add, lambda x, skip: x],
        upsample=lambda x, size: x[:, :1, :1] * jnp.ones((1, *size, 1)),
    )
    assert seen == [(2, 1)]
    np.testing.assert_array_equal(y, jnp.full((1, 8, 8, 1), 1 + 10 * 3 + 5.0))
