"""The kernel's gradient of atrous (dilated) convolutions for NVIDIA GPUs.

XLA asks cuDNN for a convolution of the features with the result's gradient as a kernel, one as large as the image.

A dense convolution of dilation r is r times r convolutions without any, each of the pixels with the same position
modulo r. Their kernel's gradient is one that cuDNN has. Compiled for an H100, this reads and writes a quarter of what
a matrix product with all shifted copies side by side does, and needs no memory for nine copies. Where there is a stride
as well, it is that product, which took 0.52 ms on an H100, and XLA's convolution 1.41.

Of a depthwise one, each tap of the kernel is a sum of products of the shifted features with the result's gradient: 0.38
ms, and XLA's 1.47. docs/gpu has the sizes.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.ops.cpu.window import Window
from jaxseg.ops.varying import operand


def dense_kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h2 w2 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of kernel[shape]: that of a convolution without dilation, or one product, see above."""
    if window.stride == (1, 1):
        return _by_phases(x, dy, shape, window)
    patches = jnp.concatenate(window.shifted(x, dy.shape[1:3], shape[:2]), axis=-1)
    left, right = patches.reshape(-1, patches.shape[-1]), dy.reshape(-1, dy.shape[-1])
    product = jnp.einsum("np,no->po", left, right, preferred_element_type=jnp.float32)
    return product.reshape(shape).astype(x.dtype)


def _by_phases(x: Array, dy: Array, shape: tuple[int, ...], window: Window) -> Array:
    """The gradient of the kernel of a convolution of the pixels of each phase, the phases side by side in the batch."""
    rates = window.dilation
    # Of the padding, what is a whole number of a phase's pixels is left to the convolution.
    before = [low % r for (low, _), r in zip(window.padding, rates, strict=True)]
    sizes = [-(-(n + low) // r) for n, low, r in zip(x.shape[1:3], before, rates, strict=True)]
    results = [-(-n // r) for n, r in zip(dy.shape[1:3], rates, strict=True)]
    edges = []
    for (low, _), r, size, result, k in zip(window.padding, rates, sizes, results, shape, strict=False):
        edges.append((low // r, result + k - 1 - low // r - size))
    x, dy = _phases(x, before, sizes, rates), _phases(dy, [0, 0], results, rates)

    def convolve(kernel: Array) -> Array:
        return lax.conv_general_dilated(x, kernel, (1, 1), edges, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    return jax.linear_transpose(convolve, operand(shape, x, dy))(dy)[0]


def _phases(x: Array, before: list[int], size: list[int], times: tuple[int, int]) -> Array:
    """Returns the phases of x[b, h, w, c] as [b * times * times, *size, c], with zeros `before` and behind `x`."""
    (height, width), (times_h, times_w) = size, times
    behind = [n * r - low - old for n, r, low, old in zip(size, times, before, x.shape[1:3], strict=True)]
    edges = [(low, high, 0) for low, high in zip(before, behind, strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    batch, _, _, channels = x.shape
    x = x.reshape(batch, height, times_h, width, times_w, channels).transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(batch * times_h * times_w, height, width, channels)


def depthwise_kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h2 w2 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of kernel[shape]: a fused product and sum a tap, in float32."""
    batch, height, width, channels = dy.shape
    split = dy.astype(jnp.float32).reshape(batch, height, width, x.shape[-1], channels // x.shape[-1])
    taps = window.shifted(x, (height, width), shape[:2])
    sums = [(tap.astype(jnp.float32)[..., None] * split).sum((0, 1, 2)) for tap in taps]
    return jnp.stack(sums).reshape(shape).astype(x.dtype)


KERNEL_GRADIENTS = {"dense": dense_kernel_gradient, "depthwise": depthwise_kernel_gradient}
