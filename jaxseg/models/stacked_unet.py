"""Stacked U-Nets: a residual network whose blocks are small U-Nets."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import BatchNorm, Conv, Feature
from jaxseg.blocks.head import Head
from jaxseg.blocks.initializers import he_normal
from jaxseg.blocks.upsample import fit
from jaxseg.checks import UserError
from jaxseg.ops.conv import conv2d
from jaxseg.ops.pool import avg_pool
from jaxseg.ops.upsample import conv_transpose2d

Function = Callable[[Feature], Feature]


def small_unet(
    x: Feature, reduce: Function, down: Sequence[Function], up: Sequence[Callable], expand: Function, shortcut: Function
) -> Feature:
    """Down, up beside what was seen on the way, and the result added to `x` (Shah et al.).

    `up` is listed from the deepest step to the finest; each takes features and the (height, width) to come to. There
    is no skip at the finest step: the shortcut is in its place.
    """
    y, seen = reduce(x), []
    for block in down:
        seen.append(y)
        y = block(y)
    for depth, block in zip(range(len(up) - 1, -1, -1), up, strict=True):
        y = block(y, seen[depth].shape[1:3])
        if depth > 0:
            y = jnp.concatenate([y, seen[depth]], axis=-1)
    return expand(y) + shortcut(x)


class NormActConv(nn.Module):
    """Batch normalisation and ReLU (or not), then a convolution."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    rate: int = 1
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
            rate=self.rate,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )
        return conv(x)


class NormActTranspose(nn.Module):
    """Batch normalisation, ReLU, and a transposed 3x3 convolution to twice the size.

    With a `rate` it keeps the size and is dilated instead; the kernel is laid out the same, [3, 3, out, in].
    """

    features: int
    rate: int | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, size: tuple[int, int], *, train: bool) -> Feature:
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))
        kernel = self.param("kernel", he_normal, (3, 3, self.features, x.shape[-1]), jnp.float32).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(self.dtype)
        if self.rate is None:
            return fit(conv_transpose2d(x, kernel, stride=2, padding=1, output_padding=1), size, 2) + bias
        return conv2d(x, kernel[::-1, ::-1].swapaxes(2, 3), padding=self.rate, rate=self.rate) + bias


class UNetModule(nn.Module):
    """One small U-Net with a shortcut, and with `rate` its dilated form."""

    features: int  # inside
    out_features: int
    depth: int = 2
    rate: int = 0  # of the first convolution, where strides are replaced by dilation; 0: strides
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        first = x.shape[-1] != self.out_features  # the first U-Net at a resolution changes the channels
        if first:
            x = nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))
        layer = partial(NormActConv, dtype=self.dtype)

        def step(i):
            rate = self.rate * 2**i
            strides = {"rate": rate} if rate else {"stride": 2}
            one = layer(self.features, **strides, name=f"down{i + 1}_conv1")
            two = layer(self.features, rate=2 * rate or 1, name=f"down{i + 1}_conv2")
            return lambda x: two(one(x, train=train), train=train)

        def climb(i):
            rate = self.rate * 2**i
            one = NormActTranspose(self.features, 2 * rate or None, self.dtype, name=f"up{i + 1}_conv1")
            two = layer(self.features, rate=rate or 1, name=f"up{i + 1}_conv2")
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


class StackedUNetEncoder(nn.Module):
    """A strided stem, and four stacks of U-Nets with 2x2 average pooling between them."""

    features: int
    stem_features: int
    widths: Sequence[int]
    counts: Sequence[int]
    finest: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> list[Feature]:
        x = Conv(self.stem_features, 7, stride=2, use_bias=True, dtype=self.dtype, name="stem")(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="residual_norm")(x, train=train))
        layer, width = partial(NormActConv, dtype=self.dtype), 2 * self.stem_features
        y = layer(width, stride=2, norm=False, name="residual_conv1")(x, train=train)
        y = layer(width, name="residual_conv2")(y, train=train)
        x = y + layer(width, 1, stride=2, norm=False, name="residual_shortcut")(x, train=train)
        stacks, stride, rate = [], 4, 0
        for number, (width, count) in enumerate(zip(self.widths, self.counts, strict=True), start=1):
            depth = 1 if number == len(self.widths) else 2
            for i in range(count):
                name = f"stack{number}_unet{i}"
                x = UNetModule(self.features, width, depth, rate, self.dtype, name=name)(x, train=train)
            stacks.append(x)
            if number < len(self.widths) and stride < self.finest:
                x, stride = avg_pool(x), 2 * stride
            else:
                rate += 2
        return stacks


class StageHead(nn.Module):
    """Batch normalisation, ReLU and the classes' scores at the picture's size."""

    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, size: tuple[int, int], *, train: bool) -> Float[Array, "b h w k"]:
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))
        return Head(self.num_classes, align_corners=False, dtype=self.dtype, name="scores")(x, size)


class StackedUNet(nn.Module):
    """Stacked U-Nets, SUNet (Shah et al., 2018, arXiv:1804.10343), in the dilated form, as the authors' code has it.

    `features`, `widths` and `counts` are SUNet-64's; variants "stacked_unet_128" and "stacked_unet_7_128". With
    ImageNet's 1000 classes they have 6,910,248, 24,704,360 and 39,113,832 parameters, as the layers of that code have
    when added up. Past a stride of `finest` pixels the pooling between the stacks is left out, and the U-Nets behind it
    dilate instead of striding; parameters do not depend on it. Unlike there: `finest` may be 4, there is no dropout
    (its rate is 1e-7), and there are no degridding filters.

    Outputs: "logits"; with `every_stage` also "stage1", "stage2" and "stage3", scores after each earlier stack.
    """

    num_classes: int
    features: int = 64  # inside the U-Nets
    stem_features: int = 64
    widths: Sequence[int] = (256, 512, 768, 1024)  # of the stacks
    counts: Sequence[int] = (2, 4, 4, 1)  # U-Nets in each stack
    finest: int = 16  # stride of the last stack, in pixels: 4, 8, 16 or 32
    every_stage: bool = False
    dtype: Any = jnp.float32

    default_encoder = None
    pixel_mean = (123.675, 116.28, 103.53)
    pixel_std = (58.395, 57.12, 57.375)

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        if self.finest not in (4, 8, 16, 32) or len(self.widths) != len(self.counts):
            raise UserError(
                f"finest is 4, 8, 16 or 32, got {self.finest!r}; widths {tuple(self.widths)} and counts"
                f" {tuple(self.counts)} have one entry a stack each."
            )
        encoder = StackedUNetEncoder(
            self.features, self.stem_features, self.widths, self.counts, self.finest, self.dtype, name="encoder"
        )
        *earlier, last = encoder(image, train=train)
        head, size = partial(StageHead, self.num_classes, self.dtype), image.shape[1:3]
        outputs = {"logits": head(name="head")(last, size, train=train)}
        for number, x in enumerate(earlier if self.every_stage else [], start=1):
            outputs[f"stage{number}"] = head(name=f"stage{number}")(x, size, train=train)
        return outputs


VARIANTS = {
    "stacked_unet": StackedUNet,
    "stacked_unet_128": partial(StackedUNet, features=128, widths=(512, 1024, 1536, 2048)),
    "stacked_unet_7_128": partial(StackedUNet, features=128, widths=(512, 1280, 2048, 2304), counts=(2, 7, 7, 1)),
}
