"""Small U-Nets as blocks of a network, and layers that normalize before they convolve."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import BatchNorm, Conv, Feature
from jaxseg.blocks.head import Head
from jaxseg.blocks.initializers import he_normal
from jaxseg.blocks.types import Function
from jaxseg.blocks.upsample import crop_or_resize
from jaxseg.ops.conv import conv2d
from jaxseg.ops.upsample import conv_transpose2d


def small_unet(
    x: Feature, reduce: Function, down: Sequence[Function], up: Sequence[Callable], expand: Function, shortcut: Function
) -> Feature:
    """Applies `down` and `up` steps with skip connections, and adds the result to `x` (Shah et al.).

    `up` is listed from the deepest step to the finest; each takes features and the (height, width) of its result.
    There is no skip at the finest step; the shortcut replaces it.
    """
    y, skips = reduce(x), []
    for block in down:
        skips.append(y)
        y = block(y)
    for depth, block in zip(range(len(up) - 1, -1, -1), up, strict=True):
        y = block(y, skips[depth].shape[1:3])
        if depth > 0:
            y = jnp.concatenate([y, skips[depth]], axis=-1)
    return expand(y) + shortcut(x)


class NormActConv(nn.Module):
    """Batch normalization and ReLU (or not), then a convolution."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    norm: bool = True
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: Any = he_normal

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        if self.norm:
            x = nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))
        conv = Conv(
            self.features,
            self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )
        return conv(x)


class NormActTranspose(nn.Module):
    """Batch normalization, ReLU, and a transposed 3x3 convolution to twice the size.

    With a `dilation` it keeps the size and is dilated instead; the kernel is laid out the same, [3, 3, out, in].
    """

    features: int
    dilation: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, size: tuple[int, int], *, train: bool) -> Feature:
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))
        kernel = self.param("kernel", he_normal, (3, 3, self.features, x.shape[-1]), jnp.float32).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(self.dtype)
        if self.dilation is None:
            x = crop_or_resize(conv_transpose2d(x, kernel, stride=2, padding=1, output_padding=1), size, 2)
        else:
            x = conv2d(x, kernel[::-1, ::-1].swapaxes(2, 3), padding=self.dilation, dilation=self.dilation)
        return x + jnp.broadcast_to(bias, x.shape)


class UNetModule(nn.Module):
    """One small U-Net with a shortcut, and with `dilation` its dilated form."""

    features: int  # inside
    out_features: int
    depth: int = 2
    dilation: int = 0  # of the first convolution, where strides are replaced by dilation; 0: strides
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        first = x.shape[-1] != self.out_features  # the first U-Net at a resolution changes the channels
        if first:
            x = nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))
        layer = partial(NormActConv, dtype=self.dtype)

        def step(i):
            dilation = self.dilation * 2**i
            strides = {"dilation": dilation} if dilation else {"stride": 2}
            one = layer(self.features, **strides, name=f"down{i + 1}_conv1")
            two = layer(self.features, dilation=2 * dilation or 1, name=f"down{i + 1}_conv2")
            return lambda x: two(one(x, train=train), train=train)

        def climb(i):
            dilation = self.dilation * 2**i
            one = NormActTranspose(self.features, 2 * dilation or None, self.dtype, name=f"up{i + 1}_conv1")
            two = layer(self.features, dilation=dilation or 1, name=f"up{i + 1}_conv2")
            return lambda x, size: two(one(x, size, train=train), train=train)

        project = layer(self.out_features, 1, norm=False, name="shortcut") if first else None
        return small_unet(
            x,
            reduce=partial(layer(self.features, 1, norm=not first, name="reduce"), train=train),
            down=[step(i) for i in range(self.depth)],
            up=[climb(i) for i in range(self.depth - 1, -1, -1)],
            expand=partial(layer(self.out_features, 1, name="expand"), train=train),
            shortcut=partial(project, train=train) if first else lambda x: x,
        )


class StageHead(nn.Module):
    """Batch normalization, ReLU and the classes' scores at the image's size."""

    num_classes: int
    dtype: Any = jnp.float32
    head_dtype: Any = None  # of the scores; None is `dtype`

    @nn.compact
    def __call__(self, x: Feature, size: tuple[int, int], *, train: bool) -> Float[Array, "b h w k"]:
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))
        dtypes = {"dtype": self.dtype, "head_dtype": self.head_dtype}
        return Head(self.num_classes, align_corners=False, **dtypes, name="scores")(x, size)
