import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.ops.morphology import dilate, erode, soft_skeleton

CROSS = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
SQUARE = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]


def pick(x, where, offsets, choose):
    """Pixel by pixel: the least or greatest of the neighbors that exist and count."""
    result = np.zeros_like(x)
    for b, i, j, c in np.ndindex(x.shape):
        places = [(i + di, j + dj) for di, dj in offsets]
        inside = [p for p in places if 0 <= p[0] < x.shape[1] and 0 <= p[1] < x.shape[2] and where[b, *p]]
        if where[b, i, j]:
            result[b, i, j, c] = choose(x[b, *p, c] for p in inside)
    return result


def skeleton(x, where, iterations):
    """The paper's iteration, in float64."""
    x = np.where(where[..., None], x, 0.0).astype(np.float64)
    found = np.zeros_like(x)
    for _ in range(iterations + 1):
        eroded = pick(x, where, CROSS, min)
        ridge = np.maximum(x - pick(eroded, where, SQUARE, max), 0)
        found, x = found + (1 - found) * ridge, eroded
    return found


@pytest.fixture(scope="module")
def maps():
    rng = np.random.default_rng(0)
    return rng.random((2, 5, 7, 2)).astype(np.float32), rng.random((2, 5, 7)) < 0.8


@pytest.fixture(scope="module")
def found(maps):
    x, where = maps
    functions = {"erode": erode, "dilate": dilate, "skeleton": soft_skeleton}
    spoiled = np.where(where[..., None], x, np.nan)
    every = {name: lambda x, w, f=f: f(x, where=w) for name, f in functions.items()}
    both = jax.jit(lambda x, y, w: {n: (f(x, None), f(y, w)) for n, f in every.items()})
    return both(x, spoiled, where)


def test_the_extremes_of_the_neighbors_that_count(maps, found):
    x, where = maps
    for i, counts in enumerate((np.ones_like(where), where)):
        np.testing.assert_array_equal(found["erode"][i], pick(x, counts, CROSS, min))
        np.testing.assert_array_equal(found["dilate"][i], pick(x, counts, SQUARE, max))


def test_the_skeleton_is_the_algorithm(maps, found):
    x, where = maps
    for i, counts in enumerate((np.ones_like(where), where)):
        np.testing.assert_allclose(found["skeleton"][i], skeleton(x, counts, 3), rtol=1e-6, atol=1e-7)


def test_iterations_follow_the_width():
    """A bar of seven pixels has its middle line after three iterations, not after one."""
    bar = jnp.zeros((1, 9, 12, 1)).at[:, 1:8, 2:10].set(1.0)
    skeletons = jax.jit(lambda x: [soft_skeleton(x, iterations=n)[0, :, 5, 0] for n in (1, 3)])
    found = skeletons(bar)
    assert found[0].tolist() == [0] * 9
    assert found[1].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]
    with pytest.raises(UserError, match="`iterations` must be at least 0, got -1"):
        soft_skeleton(bar, iterations=-1)
