"""Upsampling layers, and a table of them by name for decoders whose paper leaves the choice open."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.initializers import he_normal
from jaxseg.ops.resize import resize
from jaxseg.ops.upsample import bed_of_nails, bilinear_kernel, conv_transpose2d


def bilinear_init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Initializes a transposed convolution's kernel [k, k, o, i] to bilinear interpolation of each channel.

    Long et al., 2015, arXiv:1411.4038, section 3.3: output channel n sees input channel n alone.
    """
    del key
    size, _, outputs, inputs = shape
    kernel = bilinear_kernel(size, (size + 1) // 2)
    return jnp.asarray(kernel[:, :, None, None] * jnp.eye(outputs, inputs)[None, None], dtype)


class ConvTranspose(nn.Module):
    """A 2-D transposed convolution with PyTorch's padding rule; its kernel is laid out [height, width, out, in]."""

    features: int
    kernel_size: int = 2
    stride: int = 2
    padding: int = 0
    output_padding: int = 0
    use_bias: bool = False
    dtype: Any = jnp.float32
    kernel_init: Any = he_normal
    bias_init: Any = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Feature, factor: Float[Array, " c"] | None = None) -> Feature:
        shape = (self.kernel_size, self.kernel_size, self.features, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32) if self.use_bias else None
        if factor is not None:  # of each channel of the result
            kernel, bias = kernel * factor[None, None, :, None], None if bias is None else bias * factor
        y = conv_transpose2d(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
        )
        return y if bias is None else y + bias.astype(self.dtype)[None, None, None]


def crop_or_resize(x: Feature, size: tuple[int, int], times: int) -> Feature:
    """Crops `x` to `size`, at the bottom and right, if it is larger by less than `times` pixels; resizes it otherwise.

    The result has exactly `size`. A map enlarged `times` times may be slightly larger, as strides round sizes up.
    """
    if all(0 <= n - wanted < times for n, wanted in zip(x.shape[1:3], size, strict=True)):
        return x[:, : size[0], : size[1]]
    return resize(x, size)


class Resize(nn.Module):
    """Resizes to any size; without parameters."""

    method: str = "bilinear"
    align_corners: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, size: tuple[int, int]) -> Feature:
        return resize(x.astype(self.dtype), size, self.method, align_corners=self.align_corners)


class BedOfNails(nn.Module):
    """Doubles the size with zeros between the pixels."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, size: tuple[int, int]) -> Feature:
        x = x.astype(self.dtype)
        return x if x.shape[1:3] == size else crop_or_resize(bed_of_nails(x), size, 2)


class TransposedDouble(nn.Module):
    """Doubles the size by a learned 4x4 transposed convolution, initialized to bilinear interpolation.

    Maps that already have the size (of a dilated encoder) are filtered too, and then resized to it.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, size: tuple[int, int]) -> Feature:
        layer = ConvTranspose(x.shape[-1], 4, padding=1, dtype=self.dtype, kernel_init=bilinear_init, name="conv")
        return crop_or_resize(layer(x), size, 2)


# name -> module, which takes (x, size) and keeps the number of channels
UPSAMPLING = {
    "nearest": partial(Resize, method="nearest"),
    "bilinear": Resize,
    "bilinear_aligned": partial(Resize, align_corners=True),
    "bed_of_nails": BedOfNails,
    "transposed": TransposedDouble,
}
