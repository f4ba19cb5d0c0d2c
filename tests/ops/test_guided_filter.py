"""The guided filter against a least-squares fit in every window, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.ops.guided_filter import guided_filter, window_sum

H, W, R, EPS = 6, 7, 2, 0.01


def naive_filter(guide, values):
    """Fits each window by ridge regression, then averages, at each pixel, what the windows around it say."""
    said = [[[] for _ in range(W)] for _ in range(H)]
    for i in range(H):
        for j in range(W):
            window = slice(max(i - R, 0), i + R + 1), slice(max(j - R, 0), j + R + 1)
            x, y = guide[window].reshape(-1, 3), values[window].reshape(-1, values.shape[-1])
            centered = x - x.mean(0)
            ridge = np.vstack([centered, np.sqrt(EPS * len(x)) * np.eye(3)])
            target = np.vstack([y - y.mean(0), np.zeros((3, y.shape[1]))])
            slope = np.linalg.lstsq(ridge, target, rcond=None)[0]
            for k in range(*window[0].indices(H)):
                for l in range(*window[1].indices(W)):
                    said[k][l].append(y.mean(0) + (guide[k, l] - x.mean(0)) @ slope)
    return np.array([[np.mean(pixel, 0) for pixel in row] for row in said])


def test_equals_a_fit_in_every_window_whatever_is_beside_the_image():
    rng = np.random.default_rng(0)
    guide, values = rng.random((2, H, W, 3)), rng.random((2, H, W, 2))
    where = np.zeros((2, H + 2, W + 1), bool)
    where[:, :H, :W] = True

    def pad(x):
        wide = np.full((2, H + 2, W + 1, x.shape[-1]), np.nan, np.float32)
        wide[:, :H, :W] = x
        return wide

    def run(guide, values, where):
        return guided_filter(guide, values, radius=R, eps=EPS, where=where)

    found = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})(pad(guide), pad(values), where)
    expected = [naive_filter(g, x) for g, x in zip(guide, values, strict=True)]
    np.testing.assert_allclose(found[:, :H, :W], expected, atol=2e-6)
    assert (np.asarray(found)[~where] == 0).all()


@pytest.mark.parametrize("radius", [1, 2, 3, 5])
def test_window_sum(radius):
    x = np.arange(6.0)
    expected = [x[max(i - radius, 0) : i + radius + 1].sum() for i in range(6)]
    np.testing.assert_array_equal(window_sum(jnp.asarray(x, jnp.float32).reshape(1, 6, 1, 1), radius).ravel(), expected)


def test_mistakes_are_named():
    x = jnp.zeros((1, 2, 2, 3))
    for options in ({"radius": 0, "eps": 0.1}, {"radius": 1, "eps": 0.0}):
        with pytest.raises(UserError, match="a radius of at least 1 pixel and eps > 0"):
            guided_filter(x, x, **options)
    with pytest.raises(UserError, match="disagree"):
        guided_filter(x, x[:, :1], radius=1, eps=0.1)
