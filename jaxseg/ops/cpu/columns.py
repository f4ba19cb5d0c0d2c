"""The kernel's gradient of small deep dense convolutions, for CPUs: one matrix product.

The pixels that all taps of the kernel meet are laid out side by side, some megabytes of copies. At 8² to 16² with
hundreds of channels XLA's own gradient took about twice as long on a processor without AVX-512.
`jaxseg.ops.cpu.dense` chooses between the two.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.ops.cpu.window import Window

# From the table in docs/performance.md.
BYTES = 14 * 10**6  # of what is laid out, at most
PIXELS = 2**7  # of the batch, so that it matters
WEIGHTS = 2**14  # of one tap, so that it matters


def is_faster(x: tuple[Any, ...], dy: tuple[Any, ...], kernel: tuple[int, ...], window: Window) -> bool:
    """Says whether one product is faster than XLA for the gradient of `kernel`, given the shapes.

    >>> is_faster((4, 8, 8, 512), (4, 8, 8, 512), (3, 3, 512, 512), Window(padding=((1, 1), (1, 1))))
    True
    """
    taps = kernel[0] * kernel[1]
    shape, channels = (x, kernel[3]) if _lays_out_result(kernel, window) else (dy, kernel[2])
    pixels = math.prod(shape[:3])
    if not isinstance(pixels, int):  # a batch of any size (`jax.export`), which nobody trains
        return False
    deep = kernel[2] * kernel[3] >= WEIGHTS
    return taps > 1 and deep and pixels >= PIXELS and 4 * taps * pixels * channels <= BYTES


def kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h2 w2 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of kernel[shape], sums in float32."""
    kernel, inputs, outputs = shape[:2], *shape[2:]
    taps = kernel[0] * kernel[1]
    if _lays_out_result(shape, window):
        columns = jnp.concatenate(window.transposed(kernel).shifted(dy, x.shape[1:3], kernel), axis=-1)
        product = _product(x.reshape(-1, inputs), columns.reshape(-1, taps * outputs))
        product = product.reshape(inputs, taps, outputs)[:, ::-1].transpose(1, 0, 2)
    else:
        columns = jnp.concatenate(window.shifted(x, dy.shape[1:3], kernel), axis=-1)
        product = _product(columns.reshape(-1, taps * inputs), dy.reshape(-1, outputs))
    return product.reshape(shape).astype(x.dtype)


def _lays_out_result(kernel: tuple[int, ...], window: Window) -> bool:
    """Says whether the result's pixels are laid out: where they have fewer channels, and no stride divides them."""
    return window.stride == (1, 1) and kernel[3] < kernel[2]


def _product(a: Float[Array, "n a"], b: Float[Array, "n b"]) -> Float[Array, "a b"]:
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
