"""The flat program: what is left in it, and that it computes what the function computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.export.program import evaluate, flatten
from jaxseg.ops.conv import conv2d
from jaxseg.ops.moments import moments
from jaxseg.ops.resize import resize
from jaxseg.ops.transposed import conv_transpose2d

X = np.random.default_rng(0).normal(size=(1, 6, 8, 4)).astype(np.float32)
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 4, 4)).astype(np.float32)


def loop(x):
    def step(carry, row):
        return carry + row.sum(), carry * row

    total, rows = jax.lax.scan(step, jnp.float32(0), x[0], reverse=True)
    return rows + total


CASES = {
    "convolution": lambda x: conv2d(x, jnp.asarray(KERNEL), padding=1),
    "pointwise": lambda x: conv2d(x, jnp.asarray(KERNEL[:1, :1])),
    "depthwise": lambda x: conv2d(x, jnp.asarray(KERNEL[:, :, :1]), padding=1, groups=4),
    "transposed": lambda x: conv_transpose2d(x, jnp.asarray(KERNEL), stride=2),
    "resize": lambda x: resize(x, (9, 5)),
    "moments": lambda x: moments(x, (1, 2))[1],
    "loop": loop,
    "custom rule": lambda x: jax.nn.relu(x) + jax.checkpoint(jnp.sin)(x),
}


@pytest.mark.parametrize("name", CASES)
def test_a_flat_program_computes_the_same_and_calls_nothing(name):
    program = flatten(CASES[name], X)
    names = {equation.primitive.name for equation in program.eqns}
    assert not names & {"jit", "pjit", "cond", "scan", "platform_index", "platform_bilinear", "custom_jvp_call"}
    assert not {name for name in names if name.startswith(("custom_", "remat", "checkpoint"))}
    (got,) = jax.jit(lambda x: evaluate(program, [x]))(X)
    np.testing.assert_allclose(got, CASES[name](jnp.asarray(X)), rtol=1e-4, atol=1e-5)


def test_what_depends_on_constants_alone_is_computed():
    program = flatten(lambda x: x * jnp.tanh(jnp.arange(4.0)).sum() + conv2d(jnp.ones((1, 6, 8, 4)), KERNEL).mean(), X)
    assert [equation.primitive.name for equation in program.eqns] == ["mul", "add"]


def test_what_nobody_asked_for_is_left_out():
    def function(x):
        outputs = {"logits": x + 1, "auxiliary": jnp.exp(x @ jnp.ones((4, 100)))}
        return outputs["logits"]

    program = flatten(function, X)
    assert [equation.primitive.name for equation in program.eqns] == ["add"]
    assert program.consts == []
