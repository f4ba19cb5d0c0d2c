"""SegFormer's figures as pure functions, wired with lambdas, and the patches that keys come from."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks.mix_transformer import EfficientAttention, efficient_attention, mix_ffn
from jaxseg.blocks.mlp_head import MLPHead, mlp_head
from jaxseg.ops.resize import resize

X = jnp.arange(1.0, 7.0).reshape(1, 2, 3, 1)


def same(x):
    return x


def test_attention_looks_at_the_reduced_map():
    y = efficient_attention(
        X,
        query=lambda x: 0 * x,  # every key suits alike
        reduce=lambda x: x[:, :, :2],
        key_value=lambda x: jnp.concatenate([x, 10 * x], axis=-1),
        project=lambda x: x + 1,
        heads=1,
    )
    np.testing.assert_allclose(y, jnp.full_like(X, 10 * (1 + 2 + 4 + 5) / 4 + 1), rtol=1e-6)
    y = efficient_attention(
        X, query=lambda x: 100 * x, reduce=same, key_value=lambda x: jnp.concatenate([x, -x], -1), project=same, heads=1
    )
    np.testing.assert_allclose(y, jnp.full_like(X, -6.0), rtol=1e-6)  # the keys are what comes first


def test_mix_ffn_mixes_before_its_activation():
    y = mix_ffn(X, expand=lambda x: 2 * x, mix=lambda x: x - 100, project=lambda x: x + 7)
    np.testing.assert_allclose(y, jnp.full_like(X, 7.0), atol=1e-6)


def test_mix_ffn_has_the_exact_gelu():
    """By the error function: the one by tanh differs by up to 5e-4."""
    x = jnp.linspace(-3.0, 3.0, 25).reshape(1, 5, 5, 1)
    exact = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x.ravel().tolist()]
    y = mix_ffn(x, expand=same, mix=same, project=same)
    np.testing.assert_allclose(y.ravel(), exact, atol=1e-5)


def test_mlp_head_brings_all_levels_to_one_size():
    coarse = jnp.ones((1, 1, 1, 1))
    y = mlp_head([coarse, X], [lambda x: 5 * x, same], finish=lambda x: 2 * x, size=(2, 3))
    np.testing.assert_allclose(y, 2 * (X + 5), rtol=1e-6)


def test_the_mlp_head_is_equation_4():
    """Levels projected, enlarged, stacked coarse to fine, multiplied by one matrix; value and gradients."""
    key = iter(jax.random.split(jax.random.key(0), 20))
    shapes = {"c2": (2, 8, 6, 3), "c3": (2, 4, 3, 5), "c5": (2, 1, 1, 7)}
    levels = {name: jax.random.normal(next(key), shape) for name, shape in shapes.items()}
    block = MLPHead(features=4)
    variables = block.init(next(key), levels, train=False)
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(key), p.shape), variables["params"])
    assert set(params) == {"project_c2", "project_c3", "project_c5", "fuse"}
    assert params["fuse"]["conv"]["kernel"].shape == (1, 1, 12, 4)

    def definition(params, levels):
        views = []
        for name in ("c5", "c3", "c2"):
            project = params[f"project_{name}"]
            view = levels[name] @ project["kernel"][0, 0] + project["bias"][None, None, None]
            views.append(resize(view, (8, 6)))
        y = jnp.concatenate(views, -1) @ params["fuse"]["conv"]["kernel"][0, 0]
        mean, var = y.mean((0, 1, 2), keepdims=True), y.var((0, 1, 2), keepdims=True)
        scale, bias = (params["fuse"]["norm"][name][None, None, None] for name in ("scale", "bias"))
        return jax.nn.relu((y - mean) / jnp.sqrt(var + 1e-5) * scale + bias)

    def ours(params, levels):
        return block.apply({**variables, "params": params}, levels, train=True, mutable=["batch_stats"])[0]

    def slopes(function):
        return jax.value_and_grad(lambda *at: jnp.sin(function(*at)).sum(), argnums=(0, 1))(params, levels)

    seen, expected = jax.jit(lambda: (slopes(ours), slopes(definition)))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), seen, expected)


@pytest.mark.parametrize("size, ratio, rate, expected", [(5, 2, 1, 2), (1, 4, 1, 1), (6, 2, 2, 8), (7, 1, 4, 7)])
def test_keys_come_from_whole_patches_or_dilated_ones(size, ratio, rate, expected):
    block = EfficientAttention(heads=1, ratio=ratio, dilation=rate)
    x = jnp.ones((1, size, size, 2))
    _, seen = jax.eval_shape(
        lambda: block.init_with_output(jax.random.key(0), x, train=False, capture_intermediates=True, mutable=True)
    )
    keys = seen["intermediates"]["key_value"]["__call__"][0]
    assert keys.shape == (1, expected, expected, 4)
