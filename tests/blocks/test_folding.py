"""Batch normalization in evaluation goes into the convolution before it, but on a CPU, which does as it did."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.blocks.conv import BatchNorm, Conv, ConvNormAct, conv_norm, unfolded
from jaxseg.blocks.separable import SeparableConvNormAct
from jaxseg.blocks.upsample import ConvTranspose
from jaxseg.encoders import create_encoder
from jaxseg.encoders.inverted_residual import Block, InvertedResidual
from jaxseg.encoders.resnet import BasicBlock


class Transposed(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return conv_norm(ConvTranspose(6, use_bias=True, name="conv"), BatchNorm(name="norm"), x, train=train)


LAYERS = {
    "plain": ConvNormAct(6),
    "biased": ConvNormAct(6, stride=2, use_bias=True, activation=None),
    "grouped": ConvNormAct(8, groups=4, dilation=2),
    "separable": SeparableConvNormAct(6),
    "transposed": Transposed(),
    "residual": BasicBlock(6),
    "inverted": InvertedResidual(Block(3, 1, 8, 4, 2)),
}


@pytest.fixture
def elsewhere(monkeypatch):
    """What is traced is what any platform but a CPU runs."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *operands, default, **ways: default(*operands))


def _made(layer, shape=(2, 6, 7, 4)):
    """Variables, none of them as they begin, and features."""
    x = jax.random.normal(jax.random.key(0), shape)
    variables = layer.init(jax.random.key(1), x, train=False)
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda v: jnp.asarray(v + rng.uniform(0.1, 1.0, v.shape), jnp.float32), variables), x


def _apply(layer, variables, x, *, fold):
    if fold:
        return layer.apply(variables, x, train=False)
    with unfolded():
        return layer.apply(variables, x, train=False)


@pytest.mark.parametrize("name", LAYERS)
def test_folded_or_not_the_numbers_and_the_gradients_are_the_same(name, elsewhere):
    layer = LAYERS[name]
    variables, x = _made(layer)

    def value(variables, x, fold):
        y = _apply(layer, variables, x, fold=fold)
        return (y * jnp.cos(jnp.arange(y.size).reshape(y.shape))).sum(), y

    whole = jax.jit(jax.value_and_grad(value, (0, 1), has_aux=True), static_argnums=2)
    for one, other in zip(*(jax.tree.leaves(whole(variables, x, fold)) for fold in (True, False)), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)


def test_a_cpu_computes_the_same_bits_as_without():
    layer = LAYERS["plain"]
    variables, x = _made(layer)
    folded, plain = (jax.jit(lambda v, x, f=f: _apply(layer, v, x, fold=f))(variables, x) for f in (True, False))
    np.testing.assert_array_equal(folded, plain)


def test_a_gpu_multiplies_no_features():
    variables, x = _made(LAYERS["plain"])

    def products(fold):
        traced = jax.jit(lambda v, x: _apply(LAYERS["plain"], v, x, fold=fold)).trace(variables, x)
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
        return re.findall(r"stablehlo.multiply .* tensor<2x6x7x6xf32>", text)

    assert not products(True) and products(False)


def test_half_precision_rounds_the_product_of_kernel_and_factor_once(elsewhere):
    layer = ConvNormAct(1, 1, activation=None, dtype=jnp.bfloat16)
    kernel, factor = jnp.full((1, 1, 1, 1), 1.01), jnp.full(1, 1.01)
    norm = {
        "params": {"scale": factor, "bias": jnp.zeros(1)},
        "batch_stats": {"mean": jnp.zeros(1), "var": jnp.ones(1)},
    }
    variables = {
        "params": {"conv": {"kernel": kernel}, "norm": norm["params"]},
        "batch_stats": {"norm": norm["batch_stats"]},
    }
    y = layer.apply(variables, jnp.ones((1, 1, 1, 1)), train=False)
    assert y.item() == float(jnp.bfloat16(1.01 * 1.01)) != float(jnp.bfloat16(1.01) * jnp.bfloat16(1.01))


def test_training_normalizes_by_the_batch():
    variables, x = _made(LAYERS["plain"])
    y, updated = ConvNormAct(6, activation=None).apply(variables, x, train=True, mutable=["batch_stats"])
    scale, bias = variables["params"]["norm"]["scale"], variables["params"]["norm"]["bias"]
    np.testing.assert_allclose(y.mean((0, 1, 2)), bias, rtol=1e-3)
    np.testing.assert_allclose(y.std((0, 1, 2)), scale, rtol=1e-3)
    assert not np.allclose(updated["batch_stats"]["norm"]["mean"], variables["batch_stats"]["norm"]["mean"])


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "vgg11_bn"])
def test_of_an_encoder_no_normalization_is_left(name):
    encoder, called = create_encoder(name), []
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, train=False), x)

    def watch(call, args, kwargs, context):
        if context.method_name == "__call__":
            called.append(type(context.module))
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        jax.eval_shape(lambda v, x: encoder.apply(v, x, train=False), variables, x)
    assert called.count(BatchNorm) == 0
    assert called.count(Conv) > 5
