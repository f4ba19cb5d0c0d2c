"""EfficientNet B0 to B7 (Tan & Le, 2019, arXiv:1905.11946), and Lite 0 to 4, its like for mobile devices."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Activation
from jaxseg.encoders.inverted_residual import Block, descend, round_channels
from jaxseg.encoders.levels import Levels
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.variants import Variant


class StageSpec(NamedTuple):
    """A row of table 1 of the paper."""

    kernel_size: int
    stride: int
    expansion: int
    features: int
    repeats: int


STAGES = (
    StageSpec(3, 1, 1, 16, 1),
    StageSpec(3, 2, 6, 24, 2),
    StageSpec(5, 2, 6, 40, 2),
    StageSpec(3, 2, 6, 80, 3),
    StageSpec(5, 1, 6, 112, 3),
    StageSpec(5, 2, 6, 192, 4),
    StageSpec(3, 1, 6, 320, 1),
)


# B0 to B7: width, stretch, and the side of the images that they were trained on, in pixels
SCALES = (
    (1.0, 1.0, 224),
    (1.0, 1.1, 240),
    (1.1, 1.2, 260),
    (1.2, 1.4, 300),
    (1.4, 1.8, 380),
    (1.6, 2.2, 456),
    (1.8, 2.6, 528),
    (2.0, 3.1, 600),
)


def scaled_stages(
    stem: int, width: float, repeats: tuple[int, ...], activation: Activation, squeezed: bool
) -> list[list[Block]]:
    """The blocks of `STAGES` with `width` times the channels, after `stem` channels.

    >>> scaled_stages(32, 1.1, (1, 2, 2, 3, 3, 4, 1), nn.silu, squeezed=True)[1][1].squeezed
    6
    """
    stages, before = [], stem
    for spec, count in zip(STAGES, repeats, strict=True):
        features = round_channels(spec.features * width)
        stage = []
        for i in range(count):
            stride, expanded = spec.stride if i == 0 else 1, spec.expansion * before
            squeeze = before // 4 if squeezed else 0
            stage.append(Block(spec.kernel_size, stride, expanded, features, squeeze, activation))
            before = features
        stages.append(stage)
    return stages


class EfficientNet(nn.Module):
    """EfficientNet up to the last inverted residual: c1 to c5, without the head's 1x1 convolution.

    Three kinds of weights are in use. torchvision's and timm's `efficientnet_b0` pad symmetrically, the default here
    (torchvision's B5 to B7 with epsilon=1e-3, momentum=0.99). timm's `tf_efficientnet_b0` has TensorFlow's padding and
    epsilon=1e-3. smp's `efficientnet-b0` has TensorFlow's padding for images of one size, with which
    a level can be a pixel smaller than ceil(size / stride), and as c1 the stem's features, before the first block.
    """

    width: float = 1.0  # multiplies the channels of the stem and of every stage
    stretch: float = 1.0  # multiplies the blocks of every stage
    depth: int = 5  # levels to compute, c1 to c`depth`
    output_stride: int = 32
    dilate_first: bool = False  # the dilation rule, see `replace_strides`: timm's, or smp's if True
    early_levels: tuple[str, ...] = ()  # levels taken from the first block at that stride instead of the last
    padding: str | int = "symmetric"  # or "tensorflow", or TensorFlow's for an image of this side in pixels
    momentum: float = 0.9  # of the statistics
    epsilon: float = 1e-5
    drop_path: float = 0.0  # of the last block, linearly less before it; needs the rng "dropout"; 0.2 in the paper
    dtype: Any = jnp.float32

    output_strides = (2, 4, 8, 16, 32)
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD

    @property
    def stages(self) -> list[list[Block]]:
        """The blocks, by the rows of the paper's table 1."""
        repeats = tuple(math.ceil(stage.repeats * self.stretch) for stage in STAGES)
        return scaled_stages(round_channels(32 * self.width), self.width, repeats, nn.silu, squeezed=True)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Levels:
        stem = round_channels(32 * self.width)
        return descend(self, x, stem=stem, activation=nn.silu, squeeze_activation=nn.silu, train=train)


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite up to the last inverted residual: c1 to c5, without the head's 1x1 convolution.

    That is, without squeeze-excitation, with ReLU6, and with a stem and a head that no multiplier touches. Trained by
    TensorFlow, so strided convolutions pad the TensorFlow way: just enough for ceil(size / stride) outputs, the odd
    pixel at the bottom and right. BatchNorm's eps is 1e-3; pixels enter as (x - 127) / 128.
    """

    width: float = 1.0  # multiplies the channels of every stage; the stem keeps its 32
    stretch: float = 1.0  # multiplies the blocks of every stage but the first and the last
    depth: int = 5  # levels to compute, c1 to c`depth`
    output_stride: int = 32
    dilate_first: bool = False  # the dilation rule, see `replace_strides`: timm's, or smp's if True
    early_levels: tuple[str, ...] = ()  # levels taken from the first block at that stride instead of the last
    padding: str | int = "tensorflow"  # or "symmetric", or TensorFlow's for an image of this side in pixels
    momentum: float = 0.9  # of the statistics
    epsilon: float = 1e-3
    drop_path: float = 0.0  # of the last block, linearly less before it; needs the rng "dropout" in training
    dtype: Any = jnp.float32

    output_strides = (2, 4, 8, 16, 32)
    pixel_mean = (127.0, 127.0, 127.0)
    pixel_std = (128.0, 128.0, 128.0)

    @property
    def repeats(self) -> tuple[int, ...]:
        """The number of blocks of each stage."""
        inner = [math.ceil(stage.repeats * self.stretch) for stage in STAGES[1:-1]]
        return (STAGES[0].repeats, *inner, STAGES[-1].repeats)

    @property
    def stages(self) -> list[list[Block]]:
        """The blocks, by the rows of the paper's table 1."""
        return scaled_stages(32, self.width, self.repeats, nn.relu6, squeezed=False)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Levels:
        return descend(self, x, stem=32, activation=nn.relu6, train=train)


VARIANTS = {
    **{f"efficientnet_b{i}": Variant(EfficientNet, width=w, stretch=s) for i, (w, s, _) in enumerate(SCALES)},
    "efficientnet_lite0": EfficientNetLite,
    "efficientnet_lite1": Variant(EfficientNetLite, stretch=1.1),
    "efficientnet_lite2": Variant(EfficientNetLite, width=1.1, stretch=1.2),
    "efficientnet_lite3": Variant(EfficientNetLite, width=1.2, stretch=1.4),
    "efficientnet_lite4": Variant(EfficientNetLite, width=1.4, stretch=1.8),
}
