"""Plain encoders: stacks of 3x3 convolutions, with and without downsampling, for first steps and small tests."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import ConvNormAct
from jaxseg.checks import UserError
from jaxseg.encoders.dilation import replace_strides
from jaxseg.encoders.levels import Levels
from jaxseg.ops.max_pool import max_pool
from jaxseg.variants import Variant


class Plain(nn.Module):
    """A fully convolutional encoder of 3x3 convolutions (Long et al., 2015, arXiv:1411.4038).

    Level ci is: halve the level before it, then `convs` times convolution, batch normalization, ReLU. With
    `downsample=False` every level keeps the full resolution, the costly design that downsampling was invented
    against.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)  # channels of c1, c2, ...; at most 5
    convs: int = 2  # convolutions a level
    downsample: bool = True
    output_stride: int = 32
    dtype: Any = jnp.float32

    output_strides = (1, 2, 4, 8, 16, 32)
    pixel_mean = (127.5, 127.5, 127.5)
    pixel_std = (64.0, 64.0, 64.0)
    stem = ("level1_conv1", "conv")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Levels:
        if not 1 <= len(self.widths) <= 5:
            raise UserError(f"A plain encoder has 1 to 5 levels, got {len(self.widths)} widths.")
        strides = [2 if self.downsample else 1] * len(self.widths)
        stages = replace_strides(strides, stem=1, output_stride=self.output_stride, dilate_first=True)
        levels = {}
        for level, (width, stage) in enumerate(zip(self.widths, stages, strict=True), start=1):
            if stage.stride == 2:
                x = max_pool(x, 2)
            for i in range(1, self.convs + 1):
                conv = ConvNormAct(width, dilation=stage.dilation, dtype=self.dtype, name=f"level{level}_conv{i}")
                x = conv(x, train=train)
            levels[f"c{level}"] = x
        return Levels(levels, output_stride=self.output_stride)


VARIANTS = {
    "plain": Plain,
    "plain_fullres": Variant(Plain, widths=(32,) * 5, convs=1, downsample=False),
}
