"""EfficientNet-Lite 0 to 4: EfficientNet (Tan & Le, 2019, arXiv:1905.11946) for mobile devices.

That is, without squeeze-excitation, with ReLU6, and with a stem and a head that no multiplier touches.
Trained by TensorFlow, so strided convolutions pad the TensorFlow way: just enough for ceil(size / stride)
outputs, the odd pixel at the bottom and right. BatchNorm's eps is 1e-3; pixels enter as (x - 127) / 128.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import BatchNorm, ConvNormAct, Feature
from jaxseg.blocks.initializers import scaled
from jaxseg.encoders.dilation import replace_strides


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
# He's, for the one output channel that each input channel of a depthwise convolution goes to.
depthwise_normal = scaled("normal", lambda fan_in, fan_out: 2 / fan_in)
LEVEL_OF_STAGE = {0: "c1", 1: "c2", 2: "c3", 4: "c4", 6: "c5"}  # the last stage at each stride


def tensorflow_padding(
    size: tuple[int, int], kernel_size: int, stride: int, rate: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """TensorFlow's "SAME" for (height, width) `size`: ((top, bottom), (left, right)).

    >>> tensorflow_padding((224, 225), kernel_size=3, stride=2, rate=1)
    ((0, 1), (1, 1))
    """
    totals = [max((math.ceil(n / stride) - 1) * stride + (kernel_size - 1) * rate + 1 - n, 0) for n in size]
    return tuple((total // 2, total - total // 2) for total in totals)


def round_channels(channels: float) -> int:
    """The nearest multiple of 8 that is no more than 10 % below `channels`.

    >>> [round_channels(c) for c in (16 * 1.1, 40 * 1.1, 80 * 1.4)]
    [16, 48, 112]
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project linearly (Sandler et al., 2018, arXiv:1801.04381, fig. 3b)."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    rate: int = 1
    expansion: int = 6
    drop_path: float = 0.0  # probability that training skips the block for a picture
    norm: Any = BatchNorm
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        layer = partial(ConvNormAct, norm=self.norm, activation=nn.relu6, dtype=self.dtype)
        y = x
        if self.expansion != 1:
            y = layer(self.expansion * x.shape[-1], 1, name="expand")(y, train=train)
        y = layer(
            y.shape[-1],
            self.kernel_size,
            stride=self.stride,
            rate=self.rate,
            groups=y.shape[-1],
            padding=tensorflow_padding(y.shape[1:3], self.kernel_size, self.stride, self.rate),
            kernel_init=depthwise_normal,
            name="depthwise",
        )(y, train=train)
        y = layer(self.features, 1, activation=None, name="project")(y, train=train)
        if self.stride != 1 or x.shape[-1] != self.features:
            return y
        if self.drop_path:
            y = nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3))(y, deterministic=not train)
        return x + y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite up to the last inverted residual: c1 to c5, without the head's 1x1 convolution."""

    width: float = 1.0  # multiplies the channels of every stage; the stem keeps its 32
    stretch: float = 1.0  # multiplies the blocks of every stage but the first and the last
    depth: int = 5  # levels to compute, c1 to c`depth`
    output_stride: int = 32
    dilate_first: bool = False  # the dilation rule, see `replace_strides`: torchvision's and timm's
    drop_path: float = 0.0  # of the last block, linearly less before it; needs the rng "dropout" in training
    dtype: Any = jnp.float32

    output_strides = (2, 4, 8, 16, 32)
    pixel_mean = (127.0, 127.0, 127.0)
    pixel_std = (128.0, 128.0, 128.0)
    torch_head = ("conv_head.", "bn2.", "classifier.")

    @property
    def repeats(self) -> tuple[int, ...]:
        """The number of blocks of each stage."""
        inner = [math.ceil(stage.repeats * self.stretch) for stage in STAGES[1:-1]]
        return (STAGES[0].repeats, *inner, STAGES[-1].repeats)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> dict[str, Feature]:
        norm = partial(BatchNorm, epsilon=1e-3)
        stem_padding = tensorflow_padding(x.shape[1:3], 3, 2, 1)
        stem = partial(ConvNormAct, 32, 3, stride=2, padding=stem_padding, activation=nn.relu6, norm=norm)
        x = stem(dtype=self.dtype, name="stem")(x, train=train)
        plan = replace_strides(
            [stage.stride for stage in STAGES],
            stem=2,
            output_stride=self.output_stride,
            dilate_first=self.dilate_first,
        )
        levels, done = {}, 0
        for index, (spec, stage, repeats) in enumerate(zip(STAGES, plan, self.repeats, strict=True)):
            for i in range(repeats):
                x = InvertedResidual(
                    round_channels(spec.features * self.width),
                    spec.kernel_size,
                    stride=stage.stride if i == 0 else 1,
                    rate=stage.first_rate if i == 0 else stage.rate,
                    expansion=spec.expansion,
                    drop_path=self.drop_path * done / sum(self.repeats),
                    norm=norm,
                    dtype=self.dtype,
                    name=f"stage{index}_block{i}",
                )(x, train=train)
                done += 1
            if index in LEVEL_OF_STAGE:
                levels[LEVEL_OF_STAGE[index]] = x
            if len(levels) == self.depth:
                break
        return levels

    @staticmethod
    def torch_key(path: tuple[str, ...]) -> str:
        """Names a module as timm does (`tf_efficientnet_lite0` and its kin).

        >>> EfficientNetLite.torch_key(("stage0_block0", "project", "conv"))
        'blocks.0.0.conv_pw'
        >>> EfficientNetLite.torch_key(("stage1_block0", "project", "norm"))
        'blocks.1.0.bn3'
        """
        *block, layer, kind = path
        if not block:
            return {"conv": "conv_stem", "norm": "bn1"}[kind]
        prefix = block[0].replace("stage", "blocks.").replace("_block", ".")
        if block[0].startswith("stage0_"):  # without expansion; timm numbers and names what is left
            names = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
        else:
            names = {
                "expand": ("conv_pw", "bn1"),
                "depthwise": ("conv_dw", "bn2"),
                "project": ("conv_pwl", "bn3"),
            }
        return f"{prefix}.{names[layer][('conv', 'norm').index(kind)]}"


VARIANTS = {
    "efficientnet_lite0": EfficientNetLite,
    "efficientnet_lite1": partial(EfficientNetLite, stretch=1.1),
    "efficientnet_lite2": partial(EfficientNetLite, width=1.1, stretch=1.2),
    "efficientnet_lite3": partial(EfficientNetLite, width=1.2, stretch=1.4),
    "efficientnet_lite4": partial(EfficientNetLite, width=1.4, stretch=1.8),
}
