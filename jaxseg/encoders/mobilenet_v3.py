"""MobileNetV3 (Howard et al., 2019, arXiv:1905.02244), large and small, as torchvision builds it."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.checks import lookup
from jaxseg.encoders.inverted_residual import Block, descend, round_channels
from jaxseg.encoders.levels import Levels
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.variants import Variant


def stage(
    kernel_size: int, stride: int, expanded: Sequence[int], features: int, squeeze: bool, hard_swish: bool
) -> tuple[Block, ...]:
    """Blocks of one width, a row of table 1 or 2 for each number in `expanded`; the first has the stride."""
    return tuple(
        Block(
            kernel_size,
            stride if i == 0 else 1,
            channels,
            features,
            round_channels(channels // 4) if squeeze else 0,
            nn.hard_swish if hard_swish else nn.relu,
        )
        for i, channels in enumerate(expanded)
    )


TABLES = {
    "large": (
        stage(3, 1, (16,), 16, False, False),
        stage(3, 2, (64, 72), 24, False, False),
        stage(5, 2, (72, 120, 120), 40, True, False),
        stage(3, 2, (240, 200, 184, 184), 80, False, True),
        stage(3, 1, (480, 672), 112, True, True),
        stage(5, 2, (672, 960, 960), 160, True, True),
    ),
    "small": (
        stage(3, 2, (16,), 16, True, False),
        stage(3, 2, (72, 88), 24, False, False),
        stage(5, 2, (96, 240, 240), 40, True, True),
        stage(5, 1, (120, 144), 48, True, True),
        stage(5, 2, (288, 576, 576), 96, True, True),
    ),
}


class MobileNetV3(nn.Module):
    """MobileNetV3 up to the 1x1 convolution before its pooling, which makes c5 (unless `last_conv=False`): c1 to c5.

    `epsilon` and `momentum` are torchvision's and TensorFlow's; timm's `mobilenetv3_large_100` has 1e-5 and 0.9, its
    `tf_mobilenetv3_large_100` TensorFlow's padding. The networks of torchvision's segmentation models take
    c1 to c4 from the first block at their stride (`early_levels`).
    """

    size: str = "large"  # or "small"
    last_conv: bool = True  # whether c5 has gone through the last 1x1 convolution
    depth: int = 5  # levels to compute, c1 to c`depth`
    output_stride: int = 32
    dilate_first: bool = True  # the dilation rule, see `replace_strides`: torchvision's, or timm's if False
    early_levels: tuple[str, ...] = ()  # levels taken from the first block at that stride instead of the last
    padding: str | int = "symmetric"  # or "tensorflow", or TensorFlow's for an image of this side in pixels
    momentum: float = 0.99  # of the statistics
    epsilon: float = 1e-3
    drop_path: float = 0.0  # of the last block, linearly less before it; needs the rng "dropout" in training
    dtype: Any = jnp.float32

    output_strides = (2, 4, 8, 16, 32)
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD

    @property
    def stages(self) -> tuple[tuple[Block, ...], ...]:
        """The blocks of the paper's table 1 or 2, by their width."""
        return lookup(TABLES, self.size, "size of MobileNetV3")

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Levels:
        last = 6 * self.stages[-1][-1].features if self.last_conv else 0
        return descend(self, x, stem=16, last=last, activation=nn.hard_swish, gate=nn.hard_sigmoid, train=train)


VARIANTS = {"mobilenet_v3_large": MobileNetV3, "mobilenet_v3_small": Variant(MobileNetV3, size="small")}
