"""SegFormer's figures as pure functions, wired with lambdas, and the patches that keys come from."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks.mix_transformer import EfficientAttention, efficient_attention, mix_ffn
from jaxseg.blocks.mlp_head import mlp_head

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
    y = mlp_head([coarse, X], [lambda x: 5 * x, same], fuse=lambda x: x.sum(-1, keepdims=True), size=(2, 3))
    np.testing.assert_allclose(y, X + 5, rtol=1e-6)


@pytest.mark.parametrize("size, ratio, rate, expected", [(5, 2, 1, 2), (1, 4, 1, 1), (6, 2, 2, 8), (7, 1, 4, 7)])
def test_keys_come_from_whole_patches_or_dilated_ones(size, ratio, rate, expected):
    block = EfficientAttention(heads=1, ratio=ratio, dilation=rate)
    x = jnp.ones((1, size, size, 2))
    _, seen = jax.eval_shape(
        lambda: block.init_with_output(jax.random.key(0), x, train=False, capture_intermediates=True, mutable=True)
    )
    keys = seen["intermediates"]["key_value"]["__call__"][0]
    assert keys.shape == (1, expected, expected, 4)
