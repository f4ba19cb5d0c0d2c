"""Inverted residuals, and the walk down a network that is made of nothing else: MobileNets and EfficientNets."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.attention import squeeze_excite
from jaxseg.blocks.conv import Activation, BatchNorm, Conv, ConvNormAct, Feature
from jaxseg.blocks.initializers import he_normal_in
from jaxseg.checks import UserError
from jaxseg.encoders.dilation import replace_strides
from jaxseg.encoders.levels import Levels

Padding = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right)


class Block(NamedTuple):
    """A row of a paper's table, or one of its repeats."""

    kernel_size: int
    stride: int
    expanded: int  # channels of the depthwise convolution
    features: int  # channels of the result
    squeezed: int = 0  # channels between squeeze and excitation; 0 for a block without
    activation: Activation = nn.relu6


def round_channels(channels: float) -> int:
    """The nearest multiple of 8 that is no more than 10 % below `channels`.

    >>> [round_channels(c) for c in (16 * 1.1, 40 * 1.1, 80 * 1.4)]
    [16, 48, 112]
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def tensorflow_padding(size: tuple[int, int], kernel_size: int, stride: int, dilation: int) -> Padding:
    """TensorFlow's "SAME" for (height, width) `size`: ((top, bottom), (left, right)).

    >>> tensorflow_padding((224, 225), kernel_size=3, stride=2, dilation=1)
    ((0, 1), (1, 1))
    """
    totals = [max((math.ceil(n / stride) - 1) * stride + (kernel_size - 1) * dilation + 1 - n, 0) for n in size]
    return tuple((total // 2, total - total // 2) for total in totals)


def choose_padding(
    padding: str | int, size: tuple[int, int], *, kernel_size: int, stride: int, dilation: int = 1
) -> Padding | None:
    """What a `Conv` is to pad with when an encoder's `padding` is "symmetric" (None: its default), "tensorflow", or
    the side of the square maps, in pixels, for which it pads the TensorFlow way whatever it is given.

    >>> choose_padding("tensorflow", (7, 8), kernel_size=3, stride=2)
    ((1, 1), (0, 1))
    >>> choose_padding(8, (7, 7), kernel_size=3, stride=2)
    ((0, 1), (0, 1))
    """
    if padding == "symmetric":
        return None
    if isinstance(padding, int):
        size = (padding, padding)
    elif padding != "tensorflow":
        raise UserError(
            f"Unknown padding {padding!r}. Choose 'symmetric', 'tensorflow' or the side of an image in pixels."
        )
    return tensorflow_padding(size, kernel_size, stride, dilation)


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project linearly (Sandler et al., 2018, arXiv:1801.04381, fig. 3b).

    With squeeze and excitation between the last two as in MobileNetV3 (Howard et al., 2019, arXiv:1905.02244, fig. 4).
    """

    block: Block
    stride: int = 1  # `block`'s own, unless it became dilation
    dilation: int = 1
    padding: str | int = "symmetric"  # see `choose_padding`
    gate: Activation = nn.sigmoid  # of the excitation
    squeeze_activation: Activation = nn.relu
    drop_path: float = 0.0  # probability that training skips the block for an image
    norm: Any = BatchNorm
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        kernel_size, _, expanded, features, squeezed, activation = self.block
        layer = partial(ConvNormAct, norm=self.norm, activation=activation, dtype=self.dtype)
        y = x
        if expanded != x.shape[-1]:
            y = layer(expanded, 1, name="expand")(y, train=train)
        size = {"kernel_size": kernel_size, "stride": self.stride, "dilation": self.dilation}
        y = layer(
            expanded,
            **size,
            groups=expanded,
            padding=choose_padding(self.padding, y.shape[1:3], **size),
            kernel_init=he_normal_in,  # the inputs of one depthwise kernel
            name="depthwise",
        )(y, train=train)
        if squeezed:
            dense = partial(Conv, kernel_size=1, use_bias=True, dtype=self.dtype)
            squeeze, excite = dense(squeezed, name="squeeze"), dense(expanded, name="excite")
            y = squeeze_excite(y, squeeze, excite, gate=self.gate, activation=self.squeeze_activation)
        y = layer(features, 1, activation=None, name="project")(y, train=train)
        if self.stride != 1 or x.shape[-1] != features:
            return y
        if self.drop_path:
            y = nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3))(y, deterministic=not train)
        return x + y


@runtime_checkable
class Family(Protocol):
    """What the modules of the families have in common: the fields that `descend` reads."""

    stages: Sequence[Sequence[Block]]  # the blocks, by the rows of the paper's table
    depth: int  # levels to compute, c1 to c`depth`
    output_stride: int
    dilate_first: bool  # see `replace_strides`
    early_levels: Sequence[str]  # levels of c1 to c4 taken from the first block at that stride instead of the last;
    # or the name of the block, "stage4_block0", whose features are the level of their resolution
    padding: str | int  # of strided convolutions: see `choose_padding`; a number is the side of the image
    momentum: float  # of the statistics, see `BatchNorm`
    epsilon: float
    drop_path: float  # of the last block, linearly less before it
    dtype: Any


def descend(
    net: Family,
    x: Feature,
    *,
    stem: int,
    last: int = 0,
    activation: Activation,
    gate: Activation = nn.sigmoid,
    squeeze_activation: Activation = nn.relu,
    train: bool,
) -> Levels:
    """Runs a stem and all blocks of `net` on the image `x`, within its compact method; the levels on the way down.

    Args:
      net: the encoder.
      x: images.
      stem: channels of the first convolution.
      last: channels of a 1x1 convolution that c5 goes through in the end; 0 for none.
      activation: of these two.
      gate: of the blocks' excitations.
      squeeze_activation: between their squeeze and their excitation.
      train: whether to normalize by the batch and to skip blocks.
    """
    norm = partial(BatchNorm, momentum=net.momentum, epsilon=net.epsilon)
    layer = partial(ConvNormAct, activation=activation, norm=norm, dtype=net.dtype)
    padding = choose_padding(net.padding, x.shape[1:3], kernel_size=3, stride=2)
    x = layer(stem, stride=2, padding=padding, name="stem")(x, train=train)
    blocks = [(f"stage{s}_block{b}", block) for s, stage in enumerate(net.stages) for b, block in enumerate(stage)]
    strides = [block.stride for _, block in blocks]
    plan = replace_strides(strides, stem=2, output_stride=net.output_stride, dilate_first=net.dilate_first)
    dilations = [stage.first_dilation for stage in plan]
    for i, (name, _) in reversed(list(enumerate(blocks[:-1]))):
        if name in net.early_levels and net.dilate_first:  # what follows is dilated with the next stage
            later = next(j for j in range(i + 1, len(blocks)) if strides[j] == 2)
            dilations[i + 1 : later] = [dilations[later]] * (later - i - 1)
    levels, level, deepest = {"c1": x}, 1, net.depth
    closed = {"c1"}.intersection(net.early_levels)
    for i, ((name, block), (stride, _, _)) in enumerate(zip(blocks, plan, strict=True)):
        side = net.padding if isinstance(net.padding, str) else math.ceil(net.padding / 2**level)
        level += block.stride == 2
        taken = f"c{level}" in closed
        if level > deepest or (taken and level == deepest):
            break
        x = InvertedResidual(
            block,
            stride=stride,
            dilation=dilations[i],
            padding=side,
            gate=gate,
            squeeze_activation=squeeze_activation,
            drop_path=net.drop_path * i / len(blocks),
            norm=norm,
            dtype=net.dtype,
            name=name,
        )(x, train=train)
        if not taken:
            levels[f"c{level}"] = x
        if name in net.early_levels or f"c{level}" in net.early_levels:
            closed.add(f"c{level}")
    if last and deepest == 5:
        levels["c5"] = layer(last, 1, name="last")(levels["c5"], train=train)
    return Levels(levels, output_stride=net.output_stride)
