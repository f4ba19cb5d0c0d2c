"""Operations inside of `jax.shard_map`, where JAX checks which arrays vary over the devices.

One device will do: what varies is a matter of types, not of numbers.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from jaxseg.ops import connected_components, conv2d, conv_transpose2d, distance_transform
from jaxseg.ops.cpu import tiles
from jaxseg.ops.cpu.window import Window
from jaxseg.ops.varying import vary_like, varying_axes

WHOLE, SPLIT = PartitionSpec(), PartitionSpec("data")


def mapped(function, in_specs, out_specs):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs))


def test_vary_like():
    def look(x):
        one = jnp.float32(1.0)
        assert varying_axes(x) == {"data"} and not varying_axes(one)
        assert varying_axes(vary_like(one, x)) == {"data"}
        return vary_like(one, x)[None]

    assert mapped(look, SPLIT, SPLIT)(jnp.zeros(2)).tolist() == [1.0]
    assert "pcast" not in str(jax.make_jaxpr(vary_like)(1.0, jnp.zeros(2)))  # outside it costs nothing


CONVOLUTIONS = {
    "dense": (conv2d, (3, 3, 4, 5)),
    "into few channels": (conv2d, (1, 1, 4, 2)),
    "depthwise": (lambda x, kernel: conv2d(x, kernel, groups=4), (3, 3, 1, 4)),
    "atrous": (lambda x, kernel: conv2d(x, kernel, dilation=2, padding=2), (3, 3, 4, 5)),
    "grouped": (lambda x, kernel: conv2d(x, kernel, groups=2), (3, 3, 2, 4)),
    "transposed": (lambda x, kernel: conv_transpose2d(x, kernel, stride=2), (2, 2, 5, 4)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_has_the_gradient_it_has_elsewhere(name):
    function, shape = CONVOLUTIONS[name]
    x = jax.random.normal(jax.random.key(0), (2, 7, 6, 4))
    kernel = jax.random.normal(jax.random.key(1), shape)

    def loss(kernel, x):
        return jnp.sin(function(x, kernel)).sum()

    def summed(kernel, x):
        own = jax.grad(loss, argnums=(0, 1))(vary_like(kernel, x), x)  # had it been summed, it would not vary
        assert all(varying_axes(gradient) == {"data"} for gradient in own)
        return jax.grad(lambda kernel, x: lax.psum(loss(kernel, x), "data"), argnums=(0, 1))(kernel, x)

    expected = jax.jit(jax.grad(loss, argnums=(0, 1)))(kernel, x)
    gradients = mapped(summed, (WHOLE, SPLIT), (WHOLE, SPLIT))(kernel, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradients, expected)


def test_the_gradient_of_a_large_kernel_tile_by_tile():
    x, dy = (jax.random.normal(jax.random.key(i), (2, 6, 6, 3 + i)) for i in range(2))
    gradient = partial(tiles.kernel_gradient, shape=(3, 3, 3, 4), window=Window((1, 1), ((1, 1), (1, 1)), (1, 1)))

    def summed(x, dy):
        return lax.psum(gradient(x, dy), "data")

    np.testing.assert_allclose(mapped(summed, SPLIT, WHOLE)(x, dy), gradient(x, dy), atol=1e-4)


def test_distances_and_components():
    mask = jnp.array([[[True, False, True, False], [True, False, False, False]]])

    def both(mask):
        return distance_transform(mask), connected_components(mask)

    jax.tree.map(np.testing.assert_array_equal, mapped(both, SPLIT, SPLIT)(mask), both(mask))
