"""Convolution: one function, explicit symmetric padding, fast on every platform."""

from jax import lax
from jaxtyping import Array, Float


def conv2d(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i_per_group o"],
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[tuple[int, int], tuple[int, int]] = 0,
    rate: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Float[Array, "b h2 w2 o"]:
    """Convolves (cross-correlates, as every deep learning library does) `x` with `kernel`."""
    stride, rate = ((v, v) if isinstance(v, int) else v for v in (stride, rate))
    if isinstance(padding, int):
        padding = ((padding, padding), (padding, padding))
    return lax.conv_general_dilated(
        x,
        kernel,
        stride,
        padding,
        rhs_dilation=rate,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
