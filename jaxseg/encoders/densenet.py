"""DenseNet 121 to 201 (Huang et al., 2016, arXiv:1608.06993, table 1: DenseNet-BC)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import BatchNorm, Conv, ConvNormAct, Feature, conv_norm
from jaxseg.blocks.initializers import he_normal_in
from jaxseg.encoders.dilation import replace_strides
from jaxseg.encoders.levels import Levels
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.ops.max_pool import max_pool
from jaxseg.ops.pool import avg_pool
from jaxseg.variants import Variant


def dense_block(x: Feature, layers: Sequence[Callable[[Feature], Feature]]) -> Feature:
    """Every layer sees what all layers before it have made, and adds its own (fig. 1)."""
    for layer in layers:
        x = jnp.concatenate([x, layer(x)], axis=-1)
    return x


class DenseLayer(nn.Module):
    """Normalization, ReLU and 1x1 convolution, normalization, ReLU and 3x3 convolution (section 3)."""

    growth: int  # channels it adds
    dilation: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        conv = partial(Conv, dtype=self.dtype, kernel_init=he_normal_in)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm1")(x, train=train))
        norm = BatchNorm(dtype=self.dtype, name="norm2")
        x = nn.relu(conv_norm(conv(4 * self.growth, 1, name="conv1"), norm, x, train=train))
        return conv(self.growth, 3, dilation=self.dilation, name="conv2")(x)


class DenseNet(nn.Module):
    """Densely connected convolutional network: four dense blocks, each but the last halved by a transition.

    As in segmentation_models_pytorch, c1 is the stem before its max pooling, c2 to c4 are blocks 1 to 3 after the
    normalization and ReLU of the transition, and c5 is block 4 normalized. timm, if `raw_levels`, has blocks 1 to 3 as
    they are and block 4 after a ReLU. Poolings round odd sizes up.

    Past `output_stride`, poolings keep the size and what follows is dilated, their windows too.
    """

    layers: tuple[int, int, int, int] = (6, 12, 24, 16)  # of each block
    growth: int = 32  # channels that a layer adds; the stem has twice as many
    raw_levels: bool = False  # timm's levels
    depth: int = 5  # levels to compute, c1 to c`depth`
    output_stride: int = 32
    dtype: Any = jnp.float32

    output_strides = (4, 8, 16, 32)
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Levels:
        conv = partial(Conv, dtype=self.dtype, kernel_init=he_normal_in)
        stem = partial(ConvNormAct, 2 * self.growth, 7, stride=2, dtype=self.dtype, kernel_init=he_normal_in)
        x = stem(name="stem")(x, train=train)
        levels = {"c1": x}
        stages = replace_strides((1, 2, 2, 2), stem=4, output_stride=self.output_stride, dilate_first=False)
        for block, stage in enumerate(stages[: self.depth - 1], start=1):
            if block == 1:
                x = max_pool(x, 3)
            else:
                x = conv(x.shape[-1] // 2, 1, name=f"transition{block - 1}_conv")(x)
                x = avg_pool(x, stride=stage.stride, dilation=stage.first_dilation)
            layers = [
                partial(DenseLayer(self.growth, stage.dilation, self.dtype, name=f"block{block}_layer{i}"), train=train)
                for i in range(1, self.layers[block - 1] + 1)
            ]
            x = dense_block(x, layers)
            if self.raw_levels and block < 4:
                levels[f"c{block + 1}"] = x
                if len(levels) == self.depth:
                    break
            name = "norm5" if block == 4 else f"transition{block}_norm"
            x = BatchNorm(dtype=self.dtype, name=name)(x, train=train)
            if self.raw_levels or block < 4:
                x = nn.relu(x)
            levels.setdefault(f"c{block + 1}", x)
        return Levels(levels, output_stride=self.output_stride)


VARIANTS = {
    "densenet121": DenseNet,
    "densenet161": Variant(DenseNet, layers=(6, 12, 36, 24), growth=48),
    "densenet169": Variant(DenseNet, layers=(6, 12, 32, 32)),
    "densenet201": Variant(DenseNet, layers=(6, 12, 48, 32)),
}
