"""ResNet (He et al., 2015, arXiv:1512.03385), as torchvision builds it, with dilation in place of strides.

And its kin by other bottlenecks: ResNeXt (Xie et al., 2016, arXiv:1611.05431), whose 3x3 convolution works in 32
groups, and Wide ResNet (Zagoruyko & Komodakis, 2016, arXiv:1605.07146), torchvision's, whose 3x3 convolution is twice
as wide.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.checks import UserError
from jaxseg.encoders.dilation import Stage, replace_strides
from jaxseg.encoders.levels import Levels
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.ops.max_pool import max_pool
from jaxseg.variants import Variant


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: fig. 5, left."""

    features: int
    stride: int = 1
    dilations: tuple[int, int] = (1, 1)  # dilation of the convolution that carries the stride, and of the other
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        layer = partial(ConvNormAct, self.features, dtype=self.dtype)
        first, second = self.dilations
        y = layer(3, stride=self.stride, dilation=first, name="conv1")(x, train=train)
        y = layer(3, dilation=second, activation=None, name="conv2")(y, train=train)
        if self.stride != 1 or x.shape[-1] != self.features:
            x = layer(1, stride=self.stride, activation=None, name="shortcut")(x, train=train)
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut: fig. 5, right; the stride is in the 3x3 ("ResNet v1.5").

    With `groups`, ResNeXt's (arXiv:1611.05431, fig. 3 c): `groups` is its cardinality C, `base_width` its width d.
    """

    features: int  # of ResNet's narrow part; the block's output has four times as many
    stride: int = 1
    dilations: tuple[int, int] = (1, 1)  # only the first is used: there is one 3x3 convolution
    dtype: Any = jnp.float32
    groups: int = 1  # of the 3x3 convolution
    base_width: int = 64  # channels of a group where `features` is 64

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        layer = partial(ConvNormAct, dtype=self.dtype)
        width = self.features * self.base_width // 64 * self.groups
        y = layer(width, 1, name="conv1")(x, train=train)
        conv2 = layer(width, 3, stride=self.stride, dilation=self.dilations[0], groups=self.groups, name="conv2")
        y = conv2(y, train=train)
        y = layer(4 * self.features, 1, activation=None, name="conv3")(y, train=train)
        if self.stride != 1 or x.shape[-1] != 4 * self.features:
            shortcut = layer(4 * self.features, 1, stride=self.stride, activation=None, name="shortcut")
            x = shortcut(x, train=train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Deep residual network: c1 is the stem before its max pooling, c2 to c5 are the four stages.

    `multi_grid` multiplies the dilation of the last stage's blocks (Chen et al., 2017, arXiv:1706.05587,
    section 3.2.1).
    """

    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)  # of each stage
    block: Any = BasicBlock
    depth: int = 5  # levels to compute, c1 to c`depth`
    output_stride: int = 32
    dilate_first: bool = True  # the dilation rule, see `replace_strides`: smp's, or torchvision's if False
    multi_grid: tuple[int, ...] | None = None  # one factor for each block of the last stage, e.g. (1, 2, 4)
    dtype: Any = jnp.float32

    output_strides = (4, 8, 16, 32)
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Levels:
        x = ConvNormAct(64, 7, stride=2, dtype=self.dtype, name="stem")(x, train=train)
        levels = {"c1": x}
        x = max_pool(x, 3)
        strides = (1, 2, 2, 2)
        stages = replace_strides(strides, stem=4, output_stride=self.output_stride, dilate_first=self.dilate_first)
        for index, stage in enumerate(stages[: self.depth - 1], start=1):
            for i, dilations in enumerate(self._dilations(index, stage)):
                block = self.block(
                    64 * 2 ** (index - 1),
                    stride=stage.stride if i == 0 else 1,
                    dilations=dilations,
                    dtype=self.dtype,
                    name=f"stage{index}_block{i}",
                )
                x = block(x, train=train)
            levels[f"c{index + 1}"] = x
        return Levels(levels, output_stride=self.output_stride)

    def _dilations(self, index: int, stage: Stage) -> list[tuple[int, int]]:
        """The dilation of the two 3x3 convolutions of each block of stage `index`."""
        count = self.blocks[index - 1]
        dilations = [(stage.first_dilation, stage.dilation)] + [(stage.dilation, stage.dilation)] * (count - 1)
        if index < 4 or self.multi_grid is None:
            return dilations
        if len(self.multi_grid) != count:
            raise UserError(
                f"multi_grid {tuple(self.multi_grid)} has {len(self.multi_grid)} entries, expected {count}:"
                " one for each block of the last stage."
            )
        return [(a * factor, b * factor) for (a, b), factor in zip(dilations, self.multi_grid, strict=True)]


VARIANTS = {
    "resnet18": ResNet,
    "resnet34": Variant(ResNet, blocks=(3, 4, 6, 3)),
    "resnet50": Variant(ResNet, blocks=(3, 4, 6, 3), block=Bottleneck),
    "resnet101": Variant(ResNet, blocks=(3, 4, 23, 3), block=Bottleneck),
    "resnet152": Variant(ResNet, blocks=(3, 8, 36, 3), block=Bottleneck),
    "resnext50_32x4d": Variant(ResNet, blocks=(3, 4, 6, 3), block=Variant(Bottleneck, groups=32, base_width=4)),
    "resnext101_32x4d": Variant(ResNet, blocks=(3, 4, 23, 3), block=Variant(Bottleneck, groups=32, base_width=4)),
    "resnext101_32x8d": Variant(ResNet, blocks=(3, 4, 23, 3), block=Variant(Bottleneck, groups=32, base_width=8)),
    "wide_resnet50_2": Variant(ResNet, blocks=(3, 4, 6, 3), block=Variant(Bottleneck, base_width=128)),
    "wide_resnet101_2": Variant(ResNet, blocks=(3, 4, 23, 3), block=Variant(Bottleneck, base_width=128)),
}
