"""Initial values of convolution kernels: the published distributions, drawn fast.

Every draw is a chunk of one fixed size, already scaled: a network has dozens of kernel shapes, and compiling a
random-number program for each of them would dominate the time of `init`. Chunk `i` of a parameter comes from
`fold_in(key, i)`, so its values depend on the key and the shape alone, not on how they are computed.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Initializer = Callable[..., jax.Array]  # (key, shape, dtype) -> array

CHUNK = 1 << 15  # numbers in a draw


_shapes_only = contextvars.ContextVar("_shapes_only", default=False)


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Makes the kernels of the block zeros: for a trace that only the shapes are read of, however large they are."""
    token = _shapes_only.set(True)
    try:
        yield
    finally:
        _shapes_only.reset(token)


@jax.jit
def draw(key: jax.Array, chunk: jax.Array, std: jax.Array, normal: jax.Array) -> jax.Array:
    """Draws `CHUNK` float32 numbers of mean 0 and standard deviation `std`, normal if `normal`, else uniform."""
    u = jax.random.uniform(jax.random.fold_in(key, chunk), (CHUNK,), minval=np.nextafter(-1, 0, dtype=np.float32))
    return std * jnp.where(normal, math.sqrt(2) * jax.lax.erf_inv(u), math.sqrt(3) * u)


@partial(jax.jit, static_argnames=("shape", "dtype"))
def assemble(chunks: list[jax.Array], shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Concatenates `chunks`, drops the excess and reshapes to `shape`."""
    return jnp.concatenate(chunks)[: math.prod(shape)].reshape(shape).astype(dtype)


def scaled(distribution: str, variance: Callable[[int, int], float]) -> Initializer:
    """Makes an initializer of kernels [height, width, inputs of a group, outputs] from `variance(fan_in, fan_out)`.

    >>> scaled("normal", lambda fan_in, fan_out: 1 / fan_in)(jax.random.key(0), (3, 3, 2, 4)).shape
    (3, 3, 2, 4)
    """
    normal = np.bool_({"normal": True, "uniform": False}[distribution])

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        if _shapes_only.get():
            return jnp.zeros(shape, dtype)
        size = math.prod(shape)
        std = np.float32(math.sqrt(variance(size // shape[-1], size // shape[-2])))
        chunks = [draw(key, np.int32(i), std, normal) for i in range(-(-size // CHUNK))]
        return assemble(chunks, tuple(shape), dtype)

    return initialize


# He et al., 2015, arXiv:1502.01852; fan_out as ResNets are, fan_in as smp's decoders are.
he_normal = scaled("normal", lambda fan_in, fan_out: 2 / fan_out)
he_normal_in = scaled("normal", lambda fan_in, fan_out: 2 / fan_in)
he_uniform = scaled("uniform", lambda fan_in, fan_out: 2 / fan_in)
# Glorot & Bengio, 2010.
xavier_uniform = scaled("uniform", lambda fan_in, fan_out: 2 / (fan_in + fan_out))
# Of linear layers in BERT, ViT and ConvNeXt.
small_normal = scaled("normal", lambda fan_in, fan_out: 0.02**2)
# What a convolution of PyTorch starts from.
pytorch_uniform = scaled("uniform", lambda fan_in, fan_out: 1 / (3 * fan_in))
