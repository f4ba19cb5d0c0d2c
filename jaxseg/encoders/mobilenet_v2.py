"""MobileNetV2 (Sandler et al., 2018, arXiv:1801.04381), as torchvision builds it."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.encoders.inverted_residual import Block, descend
from jaxseg.encoders.levels import Levels
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD


class Row(NamedTuple):
    """A row of table 2 of the paper; the kernels are 3x3."""

    expansion: int
    features: int
    repeats: int
    stride: int


TABLE = (
    Row(1, 16, 1, 1),
    Row(6, 24, 2, 2),
    Row(6, 32, 3, 2),
    Row(6, 64, 4, 2),
    Row(6, 96, 3, 1),
    Row(6, 160, 3, 2),
    Row(6, 320, 1, 1),
)


class MobileNetV2(nn.Module):
    """MobileNetV2 without its classifier: c1 to c5.

    c5 is what the last 1x1 convolution makes of the last block, 1280 channels, as in smp; timm's features stop before
    it (`last_conv=False`).
    """

    last_conv: bool = True  # whether c5 has gone through the last 1x1 convolution
    depth: int = 5  # levels to compute, c1 to c`depth`
    output_stride: int = 32
    dilate_first: bool = True  # the dilation rule, see `replace_strides`: smp's, or timm's if False
    early_levels: tuple[str, ...] = ()  # levels taken from the first block at that stride instead of the last
    padding: str | int = "symmetric"  # or "tensorflow", or TensorFlow's for an image of this side in pixels
    momentum: float = 0.9  # of the statistics
    epsilon: float = 1e-5
    drop_path: float = 0.0  # of the last block, linearly less before it; needs the rng "dropout" in training
    dtype: Any = jnp.float32

    output_strides = (2, 4, 8, 16, 32)
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD

    @property
    def stages(self) -> list[list[Block]]:
        """The blocks, by the rows of the paper's table 2."""
        stages, before = [], 32
        for row in TABLE:
            stage = []
            for i in range(row.repeats):
                stage.append(Block(3, row.stride if i == 0 else 1, row.expansion * before, row.features))
                before = row.features
            stages.append(stage)
        return stages

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Levels:
        return descend(self, x, stem=32, last=1280 if self.last_conv else 0, activation=nn.relu6, train=train)


VARIANTS = {"mobilenet_v2": MobileNetV2}
