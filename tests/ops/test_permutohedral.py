"""The lattice against one that is written out point by point, in float64, with a dictionary for its vertices."""

from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.ops import permutohedral
from jaxseg.ops.permutohedral import build_lattice, lattice_filter

RNG = np.random.default_rng(0)


def surround(point):
    """The vertices around a point and its weights among them (Adams et al., 2010, §3.1)."""
    d = len(point)
    raised = np.zeros(d + 1)
    for j, x in enumerate(point, 1):
        axis = np.zeros(d + 1)
        axis[:j], axis[j] = 1, -j
        raised += axis * x * np.sqrt(2 / 3) * (d + 1) / np.sqrt(j * (j + 1))
    zero = np.round(raised / (d + 1)).astype(int)
    order = list(np.argsort(zero - raised / (d + 1), kind="stable"))  # the largest rest first
    excess = zero.sum()
    for i in order[len(order) - excess :] if excess > 0 else order[: max(-excess, 0)]:
        zero[i] -= np.sign(excess)
    rest = raised - (d + 1) * zero
    order = np.argsort(-rest, kind="stable")
    steps = rest[order] / (d + 1)
    vertices, weights, vertex = [], [], (d + 1) * zero
    for k in range(d + 1):
        vertices.append(tuple(int(v) for v in vertex))
        weights.append(steps[d - k] - steps[(d + 1 - k) % (d + 1)] + (k == 0))
        vertex = vertex + 1
        vertex[order[d - k]] -= d + 1
    return vertices, weights


def naive_filter(features, values):
    d = features.shape[1]
    places = [surround(point) for point in np.asarray(features, np.float64)]
    total = defaultdict(float)
    for (vertices, weights), value in zip(places, values, strict=True):
        for vertex, weight in zip(vertices, weights, strict=True):
            total[vertex] = total[vertex] + weight * value
    for axis in range(d + 1):
        step = np.full(d + 1, -1)
        step[axis] = d
        near = {v: [tuple(int(i) for i in v + sign * step) for sign in (1, -1)] for v in total}
        total = {v: x + sum(0.5 * total[u] for u in near[v] if u in total) for v, x in total.items()}
    sliced = [sum(w * total[v] for v, w in zip(*place, strict=True)) for place in places]
    return np.array(sliced) / (1 + 2.0**-d)


@pytest.fixture(scope="module")
def case():
    features = RNG.normal(size=(61, 5)).astype(np.float32) * 1.5
    features[7:12] = features[3]  # points that share all vertices
    values, back = RNG.normal(size=(2, 61, 3)).astype(np.float32)
    block, permutohedral.BLOCK = permutohedral.BLOCK, 16  # several blocks, the last one not full

    @jax.jit
    def run(features, values, back):
        lattice = build_lattice(features)
        result, pull = jax.vjp(lambda v: lattice_filter(lattice, v), values)
        return lattice, result, pull(back)[0]

    lattice, result, pulled = run(features, values, back)
    permutohedral.BLOCK = block
    return features, values, back, lattice, result, pulled


def test_equals_the_lattice_written_out(case):
    features, values, _, lattice, result, _ = case
    assert int(lattice.blocks) == 4
    np.testing.assert_allclose(result, naive_filter(features, values), atol=2e-5)


def test_weights_are_barycentric(case):
    weights = np.asarray(case[3].weights)
    assert weights.min() >= -1e-6
    np.testing.assert_allclose(weights.sum(0), 1, atol=1e-6)


def test_the_gradient_is_the_transpose(case):
    _, values, back, _, result, pulled = case
    np.testing.assert_allclose((back * np.asarray(result)).sum(), (np.asarray(pulled) * values).sum(), rtol=1e-4)


def test_a_image_must_be_flattened():
    with pytest.raises(UserError, match=r"must be \[points, dimensions\], got shape \(2, 2, 5\)"):
        build_lattice(jnp.zeros((2, 2, 5)))
