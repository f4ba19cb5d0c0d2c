"""Dense convolution for CPUs: XLA's own, but for the kernel's gradient of large batches.

That gradient is a convolution with a kernel as large as the image, which is read again for every few channels of the
input. Where it is larger than a processor's cache, XLA's CPU compiler takes up to three times as long as for the parts
of the batch one after another. `jaxseg.ops.conv.conv2d` chooses between the two.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.ops.cpu import grouped
from jaxseg.ops.cpu.window import Window

forward = grouped.forward
input_gradient = grouped.input_gradient

CACHE = 8 * 2**20  # bytes of a part; 4 MiB were as fast, 13 MiB took half as long again
ROWS = 512  # inputs * taps; fewer read the other factor so few times that its size does not matter


def parts(x: tuple[int, ...], kernel: tuple[int, ...], window: Window) -> int:
    """Returns into how many parts of the batch the gradient of `kernel` is divided, given the shape of `x`.

    >>> parts((8, 80, 80, 256), (3, 3, 256, 128), Window(padding=((1, 1), (1, 1))))
    4
    """
    batch, taps, inputs = x[0], kernel[0] * kernel[1], kernel[2]
    if taps == 1 or taps * inputs < ROWS:
        return 1
    image = 4 * kernel[3] * math.prod(window.output_size(x[1:3], kernel[:2]))
    return next((n for n in range(1, batch + 1) if batch % n == 0 and batch // n * image <= CACHE), batch)


def kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h2 w2 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of kernel[shape]: a sum over parts of the batch, in float32."""
    n = parts(x.shape, shape, window)
    kernel = jax.ShapeDtypeStruct(shape, jnp.float32)

    def part(x: Array, dy: Array) -> Array:
        return jax.linear_transpose(lambda kernel: forward(x, kernel, window), kernel)(dy)[0]

    # Every n-th image, so that a batch that lies on several devices is not moved between them.
    xs, dys = (a.astype(jnp.float32).reshape(-1, n, *a.shape[1:]) for a in (x, dy))
    return sum(part(xs[:, k], dys[:, k]) for k in range(n)).astype(x.dtype)
