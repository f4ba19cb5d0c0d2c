"""ConvNeXt (Liu et al., 2022, arXiv:2201.03545): a ResNet with a transformer's proportions."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Conv, ConvNormAct, Feature
from jaxseg.blocks.initializers import small_normal
from jaxseg.blocks.layer_norm import LayerNorm, LayerScale
from jaxseg.encoders.dilation import replace_strides
from jaxseg.encoders.levels import Levels
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.ops.activations import gelu
from jaxseg.variants import Variant

Norm = partial(LayerNorm, epsilon=1e-6)


def patch_padding(
    size: tuple[int, int], kernel_size: int, stride: int, dilation: int = 1
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding of a convolution of patches for ceil(size / stride) of them, ((top, bottom), (left, right)).

    Strided patches start at the image's corner, and only the last may be padded. Where dilation has replaced the
    stride they are centered, but for the odd pixel, as timm does it.

    >>> patch_padding((64, 65), kernel_size=4, stride=4)
    ((0, 0), (0, 3))
    >>> patch_padding((8, 9), kernel_size=2, stride=1, dilation=2)
    ((1, 1), (1, 1))
    """
    totals = [max((-(-n // stride) - 1) * stride + (kernel_size - 1) * dilation + 1 - n, 0) for n in size]
    before = [total // 2 if stride == 1 else 0 for total in totals]
    return tuple((a, total - a) for a, total in zip(before, totals, strict=True))


class ConvNeXtBlock(nn.Module):
    """A depthwise 7x7 convolution, then four times the channels and back: fig. 4, right."""

    dilation: int = 1
    drop_path: float = 0.0  # probability that training skips the block for an image
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        channels = x.shape[-1]
        layer = partial(Conv, use_bias=True, dtype=self.dtype, kernel_init=small_normal)
        y = layer(channels, 7, dilation=self.dilation, groups=channels, name="depthwise")(x)
        y = Norm(dtype=self.dtype, name="norm")(y, train=train)
        y = gelu(layer(4 * channels, 1, name="expand")(y))
        y = LayerScale(dtype=self.dtype, name="layer_scale")(layer(channels, 1, name="project")(y))
        if self.drop_path:
            y = nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3))(y, deterministic=not train)
        return x + y


class Downsample(nn.Module):
    """Layer normalization and a convolution of 2x2 patches: section 2.6."""

    features: int
    stride: int = 2
    dilation: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        x = Norm(dtype=self.dtype, name="norm")(x, train=train)
        conv = Conv(
            self.features,
            2,
            stride=self.stride,
            dilation=self.dilation,
            padding=patch_padding(x.shape[1:3], 2, self.stride, self.dilation),
            use_bias=True,
            dtype=self.dtype,
            kernel_init=small_normal,
            name="conv",
        )
        return conv(x)


class ConvNeXt(nn.Module):
    """ConvNeXt: c2 to c5 are its four stages, without a normalization after them; there is no c1.

    An image whose sides are no multiples of 32 is padded with zeros at the bottom and the right, level by level, where
    timm and torchvision leave pixels out.
    """

    widths: tuple[int, int, int, int] = (96, 192, 384, 768)
    blocks: tuple[int, int, int, int] = (3, 3, 9, 3)  # of each stage
    depth: int = 5  # the last level to compute, c`depth`; at least 2
    output_stride: int = 32
    dilate_first: bool = False  # the dilation rule of the 2x2 convolutions, see `replace_strides`: timm's
    drop_path: float = 0.0  # of the last block, linearly less before it (paper: table 5); needs the rng "dropout"
    dtype: Any = jnp.float32

    output_strides = (4, 8, 16, 32)
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Levels:
        stem = ConvNormAct(
            self.widths[0],
            4,
            stride=4,
            padding=patch_padding(x.shape[1:3], 4, 4),
            activation=None,
            use_bias=True,
            norm=Norm,
            dtype=self.dtype,
            kernel_init=small_normal,
            name="stem",
        )
        x = stem(x, train=train)
        plan = replace_strides((1, 2, 2, 2), stem=4, output_stride=self.output_stride, dilate_first=self.dilate_first)
        levels, done = {}, 0
        for index, (stage, width) in enumerate(zip(plan[: self.depth - 1], self.widths, strict=False), start=1):
            if index > 1:
                down = Downsample(
                    width, stage.stride, stage.first_dilation, dtype=self.dtype, name=f"stage{index}_down"
                )
                x = down(x, train=train)
            for i in range(self.blocks[index - 1]):
                drop_path = self.drop_path * done / (sum(self.blocks) - 1)
                block = ConvNeXtBlock(stage.dilation, drop_path, dtype=self.dtype, name=f"stage{index}_block{i}")
                x = block(x, train=train)
                done += 1
            levels[f"c{index + 1}"] = x
        return Levels(levels, output_stride=self.output_stride)


VARIANTS = {
    "convnext_tiny": ConvNeXt,
    "convnext_small": Variant(ConvNeXt, blocks=(3, 3, 27, 3)),
    "convnext_base": Variant(ConvNeXt, widths=(128, 256, 512, 1024), blocks=(3, 3, 27, 3)),
    "convnext_large": Variant(ConvNeXt, widths=(192, 384, 768, 1536), blocks=(3, 3, 27, 3)),
}
