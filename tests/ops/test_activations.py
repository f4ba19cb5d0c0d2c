"""Activations that keep one array."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.ops.activations import gelu


def test_gelu_is_jaxs_with_its_derivatives():
    x, dx = jnp.linspace(-6, 6, 97), jnp.cos(jnp.arange(97.0))

    def every(function):
        def total(x):
            return jnp.sin(function(x)).sum()

        return function(x), jax.jvp(function, (x,), (dx,))[1], jax.jvp(jax.grad(total), (x,), (dx,))[1]

    expected = every(lambda x: jax.nn.gelu(x, approximate=False))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), every(gelu), expected)


def test_the_gradient_keeps_the_features_alone():
    x = jnp.ones((3, 4), jnp.bfloat16)
    kept = [leaf for leaf in jax.tree.leaves(jax.vjp(gelu, x)[1]) if leaf.size == x.size]
    assert [leaf.dtype for leaf in kept] == [jnp.bfloat16]
    assert len([v for v in jax.tree.leaves(jax.vjp(jax.nn.gelu, x)[1]) if v.size == x.size]) > 1  # JAX's own
