"""Multiply-accumulates against hand counts and published ones."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxseg.analysis.flops import count_macs
from jaxseg.encoders import create_encoder
from jaxseg.ops.conv import conv2d


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


@pytest.mark.parametrize(
    "x, kernel, options, expected",
    [
        (shape(2, 8, 8, 3), shape(3, 3, 3, 5), dict(padding=1), 2 * 8 * 8 * 5 * 9 * 3),
        (shape(1, 9, 8, 3), shape(3, 3, 3, 5), dict(padding=1, stride=2), 5 * 4 * 5 * 9 * 3),
        (shape(1, 8, 8, 6), shape(3, 3, 2, 12), dict(padding=1, groups=3), 64 * 12 * 9 * 2),
        (shape(1, 8, 8, 6), shape(5, 5, 1, 6), dict(padding=2, groups=6), 64 * 6 * 25),  # depthwise
        (shape(1, 8, 8, 6), shape(1, 1, 6, 4), dict(stride=2), 16 * 4 * 6),  # 1x1
    ],
)
def test_convolutions_by_hand(x, kernel, options, expected):
    assert count_macs(lambda x, k: conv2d(x, k, **options), x, kernel).total() == expected


def test_loops_jits_and_scopes():
    def function(a, b):
        with jax.named_scope("outer"):
            once = jax.jit(jnp.matmul)(a, b)
        return lax.scan(lambda c, _: (c @ b, None), once, length=4)[0]

    counts = count_macs(function, shape(2, 3), shape(3, 3))
    assert counts.total() == 5 * 2 * 3 * 3
    assert sum(n for name, n in counts.items() if name.startswith("outer")) == 2 * 3 * 3


def encoder_macs(name, size):
    encoder = create_encoder(name)
    image = shape(1, size, size, 3)
    variables = jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, train=False), image)
    macs = count_macs(lambda v, x: encoder.apply(v, x, train=False), variables, image).total()
    return macs, sum(p.size for p in jax.tree.leaves(variables["params"]))


def test_published_figures():
    macs, parameters = encoder_macs("resnet50", 224)
    assert parameters + 2048 * 1000 + 1000 == 25_557_032  # with the classifier, as torchvision counts
    assert macs + 2048 * 1000 == pytest.approx(4.09e9, rel=1e-3)
    macs, _ = encoder_macs("resnet18", 224)
    assert macs + 512 * 1000 == pytest.approx(1.81e9, rel=5e-3)
