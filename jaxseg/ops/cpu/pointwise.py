"""1x1 convolution for CPUs: matrix products over the channels, sums in float32.

XLA's CPU compiler takes ten times longer over the kernel gradient of a 1x1 convolution than over the same product
written as one. `jaxseg.ops.conv.conv2d` chooses between the two.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.ops.cpu.window import Window


def forward(x: Float[Array, "b h w i"], kernel: Float[Array, "1 1 i o"], window: Window) -> Array:
    """Multiplies every pixel's features by the kernel."""
    return _product(_thin(x, window), kernel[0, 0], ((3,), (0,))).astype(x.dtype)


def input_gradient(
    dy: Float[Array, "b h2 w2 o"], kernel: Float[Array, "1 1 i o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of x[shape]: pixels that a stride skips have none."""
    dx = _product(dy, kernel[0, 0], ((3,), (1,))).astype(dy.dtype)
    (stride_h, stride_w), size = window.stride, dy.shape[1:3]
    bottom, right = (shape[1 + n] - (size[n] - 1) * window.stride[n] - 1 for n in (0, 1))
    return lax.pad(
        dx, jnp.zeros((), dx.dtype), ((0, 0, 0), (0, bottom, stride_h - 1), (0, right, stride_w - 1), (0, 0, 0))
    )


def kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h2 w2 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of kernel[shape]."""
    return _product(_thin(x, window), dy, ((0, 1, 2), (0, 1, 2))).reshape(shape).astype(x.dtype)


def _product(a: Array, b: Array, axes: tuple[tuple[int, ...], tuple[int, ...]]) -> Array:
    return lax.dot_general(a, b, (axes, ((), ())), preferred_element_type=jnp.float32)


def _thin(x: Array, window: Window) -> Array:
    return x[:, :: window.stride[0], :: window.stride[1]]
