"""The norms against their definitions in float64, with means far from zero, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks.conv import BatchNorm, GroupNorm
from jaxseg.blocks.layer_norm import LayerNorm
from jaxseg.checks import UserError
from jaxseg.ops import moments as moments_module
from jaxseg.ops.moments import moments

SHAPE = (2, 17, 20, 8)
NORMS = {"batch": (BatchNorm(), (0, 1, 2)), "group": (GroupNorm(groups=4), (1, 2, 4)), "layer": (LayerNorm(), (3,))}


def definition(name, x):
    """Normalized values, and (mean, variance), in float64."""
    _, axes = NORMS[name]
    x = x.reshape(*x.shape[:3], 4, 2) if name == "group" else x
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return ((x - mean) / np.sqrt(variance + 1e-5)).reshape(SHAPE), mean, variance


def pixels(mean, deviation):
    x = mean + deviation * np.random.default_rng(0).normal(size=SHAPE)
    return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("mean, deviation, atol", [(0.0, 1.0, 1e-5), (1000.0, 0.1, 3e-3), (-30.0, 0.01, 1e-3)])
def test_means_far_from_zero(name, mean, deviation, atol):
    """At mean 1000 the float32 numbers that go in are 6e-5 apart, 6e-4 of a deviation."""
    norm, _ = NORMS[name]
    x = pixels(mean, deviation)
    variables = norm.init(jax.random.key(0), x, train=False)
    y, updates = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    expected, mean, variance = definition(name, np.asarray(x, np.float64))
    np.testing.assert_allclose(y, expected, atol=atol)
    if name == "batch":
        count = x.size / SHAPE[-1]
        kept = updates["batch_stats"]
        np.testing.assert_allclose(kept["mean"], 0.1 * mean.ravel(), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(
            kept["var"] - 0.9, 0.1 * variance.ravel() * count / (count - 1), rtol=1e-5, atol=2e-7
        )


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2)])
@pytest.mark.parametrize("mean, deviation", [(2.0, 1.0), (1000.0, 0.1)])
def test_every_platform_has_the_same_moments(axes, mean, deviation):
    x = pixels(mean, deviation)
    x = x.at[:, 0].set(0.4 * mean).at[:, :, -1].set(0.4 * mean)  # as padding leaves the edges of a map
    x64 = np.asarray(x, np.float64)
    for way in (moments, moments_module._shifted):
        got = jax.jit(way, static_argnums=1)(x, axes)
        np.testing.assert_allclose(got[0], x64.mean(axes, keepdims=True), rtol=1e-5)
        np.testing.assert_allclose(got[1], x64.var(axes, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize("mean, deviation", [(0.0, 1.0), (30.0, 1.0)])
def test_bfloat16_has_moments_without_a_shift_on_a_gpu(mean, deviation):
    """Further away than that, bfloat16 does not hold the deviations: at mean 1000, its numbers are 4 apart."""
    x = pixels(mean, deviation).astype(jnp.bfloat16)
    x64, axes = np.asarray(x, np.float64), (0, 1, 2)
    for got in (moments(x, axes), moments_module._about(x.astype(jnp.float32), axes)):
        assert [part.dtype for part in got] == [jnp.float32] * 2
        np.testing.assert_allclose(got[0], x64.mean(axes, keepdims=True), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got[1], x64.var(axes, keepdims=True), rtol=1e-3)
    program = jax.jit(moments, static_argnums=1)
    sampled = ["slice" in program.trace(a, axes).lower(lowering_platforms=("cuda",)).as_text() for a in (x, x64)]
    assert sampled == [False, True]


def test_derivatives_of_moments():
    x, dx, ddx = (pixels(m, 1.0 + m) for m in (0.5, 0.0, 1.0))
    axes = (0, 1, 2)

    def slow(x):
        mean = x.mean(axes, keepdims=True)
        return mean, jnp.square(x - mean).mean(axes, keepdims=True)

    def fast(x):
        return moments(x, axes)

    def every(function):
        def scalar(x):
            mean, variance = function(x)
            return (jnp.sin(mean) * variance**2).sum()

        first = jax.jvp(function, (x,), (dx,))[1]
        return first, jax.grad(scalar)(x), jax.jvp(jax.grad(scalar), (x,), (ddx,))[1]

    expected, got = jax.jit(lambda: every(slow))(), jax.jit(lambda: every(fast))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, expected)


def test_gradient_of_batch_norm_far_from_zero():
    x, dy = pixels(1000.0, 0.1), pixels(0.0, 1.0)
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x, train=False)
    _, pull = jax.vjp(lambda x: norm.apply(variables, x, train=True, mutable=["batch_stats"])[0], jnp.asarray(x))
    y, _, variance = definition("batch", np.asarray(x, np.float64))
    down = np.asarray(dy)
    centered = down - down.mean((0, 1, 2)) - y * (down * y).mean((0, 1, 2))
    np.testing.assert_allclose(pull(dy)[0], centered / np.sqrt(variance + 1e-5), atol=0.1)  # of numbers up to 40


def test_one_value_per_channel_is_refused_in_training():
    norm, x = BatchNorm(name="image"), jnp.ones((1, 1, 1, 4))
    variables = norm.init(jax.random.key(0), x, train=True)
    norm.apply(variables, x, train=False)
    norm.apply(variables, jnp.ones((2, 1, 1, 4)), train=True, mutable=["batch_stats"])
    with pytest.raises(UserError, match="sees one value per channel.*larger batch"):
        norm.apply(variables, x, train=True, mutable=["batch_stats"])
