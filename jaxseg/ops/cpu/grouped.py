"""Convolution in groups for CPUs: XLA's own, but for the gradient of the kernel.

XLA's CPU compiler takes some two hundred times longer over that gradient than over the convolution itself (ResNeXt's
32 groups), while a product of two matrices for every tap and group takes as long as the convolution.
`jaxseg.ops.conv.conv2d` chooses between the two.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.ops.cpu.window import Window


def forward(x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw i_per_group o"], window: Window) -> Array:
    """Convolves every group of channels by itself."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window.stride,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )


def input_gradient(
    dy: Float[Array, "b h2 w2 o"], kernel: Float[Array, "kh kw i_per_group o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of x[shape]."""
    x = jax.ShapeDtypeStruct(shape, dy.dtype)
    return jax.linear_transpose(lambda x: forward(x, kernel, window), x)(dy)[0]


def kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h2 w2 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of kernel[shape]: for every tap and group a product of two matrices, summed in float32."""
    size, inputs = dy.shape[1:3], shape[2]
    groups = x.shape[-1] // inputs
    padded = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*p, 0) for p in window.padding), (0, 0, 0)))
    right = dy.reshape(-1, groups, shape[3] // groups)
    products = []
    for tap in window.taps(shape[:2]):
        start = [i * dilation for i, dilation in zip(tap, window.dilation, strict=True)]
        stop = [at + (n - 1) * s + 1 for at, n, s in zip(start, size, window.stride, strict=True)]
        shifted = lax.slice(padded, (0, *start, 0), (x.shape[0], *stop, x.shape[3]), (1, *window.stride, 1))
        left = shifted.reshape(-1, groups, inputs)
        products.append(jnp.einsum("ngi,ngo->igo", left, right, preferred_element_type=jnp.float32))
    return jnp.stack(products).reshape(shape).astype(x.dtype)
