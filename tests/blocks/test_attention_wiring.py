"""The wirings of PAN's, MA-Net's, U-Net++'s and LinkNet's figures with lambdas, and the attention the modules show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks.attention import SCSE
from jaxseg.blocks.fpa import FPA, fpa, pyramid
from jaxseg.blocks.gau import GAU, gau
from jaxseg.blocks.manet import MFAB, PAB, mfab, pab, position_weights, weighted_values
from jaxseg.models.linknet import link
from jaxseg.models.unetplusplus import nest
from jaxseg.ops.resize import resize_like

X = jnp.arange(1.0, 17.0).reshape(1, 4, 4, 1)


def same(x):
    return x


def test_fpa_weighs_the_features_and_adds_the_whole():
    y = fpa(X, attention=lambda x: jnp.full((1, 2, 2, 1), 3.0), middle=lambda x: 2 * x, image=lambda x: 100 * x)
    np.testing.assert_allclose(y, 6 * X + 850, rtol=1e-6)


def test_the_pyramid_adds_every_scale_from_coarse_to_fine():
    seen, shown = [], []
    ones = jnp.ones((1, 8, 8, 1))

    def layer(factor):
        return lambda x: seen.append((factor, x.shape[1])) or factor * x

    y = pyramid(
        ones,
        pool=lambda x: x[:, ::2, ::2],
        down=[layer(2), layer(3), layer(5)],
        across=[layer(7), layer(11), layer(13)],
        show=lambda x: shown.append(x) or x,
    )
    assert seen == [(2, 4), (3, 2), (5, 1), (13, 1), (11, 2), (7, 4)]
    np.testing.assert_allclose(y, jnp.full((1, 4, 4, 1), 7 * 2 + 11 * 6 + 13 * 30.0))
    np.testing.assert_array_equal(shown[0], y)


def test_gau_weighs_the_details_by_the_deep_average():
    y = gau(X, jnp.full((1, 2, 2, 1), 5.0), detail=lambda x: 10 * x, weigh=lambda x: x + 1, upsample=resize_like)
    np.testing.assert_allclose(y, 60 * X + 5, rtol=1e-6)


def test_pab_adds_what_each_position_heeds():
    x = jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1)
    far = 50 * jnp.array([1.0, -1.0]).reshape(1, 1, 2, 1)  # each position heeds the other one alone
    y = pab(x, lambda x: far, lambda x: -far, lambda x: 10 * x, lambda x: 3 * x, position_weights, weighted_values)
    np.testing.assert_allclose(y.ravel(), [3 * 21, 3 * 12], rtol=1e-6)


def test_mfab_weighs_the_enlarged_features_by_both_levels():
    high = jnp.ones((1, 2, 2, 1))
    y = mfab(high, X, lambda x: 2 * x, resize_like, lambda x: x * 0 + 3, lambda x: x[:, :1, :1] * 0 + 4, same)
    np.testing.assert_allclose(y[..., :1], jnp.full_like(X, 14.0))
    np.testing.assert_array_equal(y[..., 1:], X)


def test_the_nest_sees_every_earlier_node_of_its_row_the_latest_first():
    levels = {i: jnp.full((1, 2 ** (3 - i), 2 ** (3 - i), 1), 10.0**i) for i in (1, 2, 3)}
    sizes = {i: (2 ** (3 - i),) * 2 for i in range(4)}
    seen = {}

    def block(node):
        def run(x, beside):
            seen[node] = [x.max().item()] + [b.max().item() for b in beside]
            return x * 0 + sum(node) + 0.5 * node[1]

        return run

    nodes = [(0, 3), (1, 1), (1, 2), (2, 1)]
    made = nest(
        levels, sizes, {node: block(node) for node in nodes}, lambda x, size: x[:, :1, :1] * jnp.ones((1, *size, 1))
    )
    assert seen[1, 1] == [100, 10]
    assert seen[2, 1] == [1000, 100]
    assert seen[1, 2] == [3.5, 2.5, 10]  # X^{2,1} enlarged, X^{1,1}, X^{1,0}
    assert seen[0, 3] == [4]  # the image's own row has no features
    assert made[0, 3].shape == (1, 8, 8, 1)


def test_linknet_adds_the_skips_to_what_was_doubled_and_cut():
    skips = [jnp.full((1, 3, 4, 1), 7.0), None]
    y = link(jnp.ones((1, 2, 2, 1)), skips, [(3, 4), (5, 8)], [lambda x: jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)] * 2)
    np.testing.assert_array_equal(y, jnp.full((1, 5, 8, 1), 8.0))


@pytest.mark.parametrize(
    "module, inputs, path, shape",
    [
        (SCSE(), [X], (), (1, 4, 4, 1)),
        (SCSE(), [X], ("channel",), (1, 1, 1, 1)),
        (FPA(4), [X], (), (1, 2, 2, 1)),
        (GAU(4), [X, jnp.ones((1, 2, 2, 4))], (), (1, 1, 1, 4)),
        (PAB(2), [X], (), (1, 16, 16)),
        (MFAB(4), [jnp.ones((1, 2, 2, 4)), X], ("weigh_skip",), (1, 1, 1, 1)),
    ],
)
def test_attention_is_shown_to_those_who_ask(module, inputs, path, shape):
    options = {"train": False} if isinstance(module, FPA | GAU | MFAB) else {}
    variables = jax.jit(lambda *x: module.init(jax.random.key(0), *x, **options))(*inputs)
    assert "intermediates" not in variables
    apply = jax.jit(lambda v, *x: module.apply(v, *x, **options, mutable=["intermediates"]))
    _, shown = apply(variables, *inputs)
    for name in ("intermediates", *path):
        shown = shown[name]
    (attention,) = shown["attention"]
    assert attention.shape == shape
    assert (np.asarray(attention) >= 0).all()
    if isinstance(module, PAB):
        np.testing.assert_allclose(attention.sum(), 1, rtol=1e-5)  # one softmax over all pairs
