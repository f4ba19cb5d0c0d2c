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
from jaxseg.ops.varying import operand


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
    x = operand(shape, dy, kernel)
    return jax.linear_transpose(lambda x: forward(x, kernel, window), x)(dy)[0]


def kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h2 w2 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of kernel[shape]: for every tap and group a product of two matrices, summed in float32."""
    inputs = shape[2]
    groups = x.shape[-1] // inputs
    right = dy.reshape(-1, groups, shape[3] // groups)
    products = []
    for met in window.shifted(x, dy.shape[1:3], shape[:2]):
        left = met.reshape(-1, groups, inputs)
        products.append(jnp.einsum("ngi,ngo->igo", left, right, preferred_element_type=jnp.float32))
    return jnp.stack(products).reshape(shape).astype(x.dtype)
