"""LinkNet: a light decoder that adds the encoder's features to its own."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import BatchNorm, ConvNormAct, Feature, conv_norm
from jaxseg.blocks.initializers import he_uniform, pytorch_uniform
from jaxseg.blocks.types import Function
from jaxseg.blocks.upsample import ConvTranspose, crop_or_resize
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import Architecture


def link(
    x: Feature, skips: Sequence[Feature | None], sizes: Sequence[tuple[int, int]], blocks: Sequence[Function]
) -> Feature:
    """Doubles the size of `x` block by block, and adds the encoder's features where there are any (fig. 1)."""
    for skip, size, block in zip(skips, sizes, blocks, strict=True):
        x = crop_or_resize(block(x), size, 2)
        if skip is not None:
            x = x + skip
    return x


class LinkNetBlock(nn.Module):
    """Reduces the channels, doubles the size, and expands the channels (Chaurasia & Culurciello, 2017, fig. 3)."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        layer = partial(ConvNormAct, kernel_size=1, dtype=self.dtype, kernel_init=he_uniform)
        narrow = x.shape[-1] // 4
        x = layer(narrow, name="reduce")(x, train=train)
        double = ConvTranspose(
            narrow, 4, padding=1, use_bias=True, dtype=self.dtype, kernel_init=pytorch_uniform, name="double"
        )
        norm = BatchNorm(dtype=self.dtype, name="double_norm")
        x = nn.relu(conv_norm(double, norm, x, train=train))
        return layer(self.features, name="expand")(x, train=train)


class LinkNetDecoder(nn.Module):
    """LinkNet (Chaurasia & Culurciello, 2017, arXiv:1707.03718, figs. 1 and 3) on any encoder.

    As in segmentation_models_pytorch, and unlike the paper: transposed convolutions of 4x4 (the paper's are 3x3); c1
    joins too; and the last two enlargements are blocks like the others, followed by a 1x1 convolution to the scores.
    The paper's net, on ResNet-18, has 11.5 million parameters. The decoder starts from He's uniform initialization,
    the transposed convolutions from PyTorch's default, the head from Glorot's.

    Outputs: "logits".
    """

    features: int = 32  # of the last block, at the image's own size
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        skips, sizes = levels.skips(size)
        x = levels.deepest
        widths = [x.shape[-1]]
        for skip in skips[:-1]:  # where the encoder has no features to add, the width stays
            widths.append(widths[-1] if skip is None else skip.shape[-1])
        blocks = [
            LinkNetBlock(features, self.dtype, name=f"block{i}")
            for i, features in enumerate([*widths[1:], self.features])
        ]
        return link(x, skips, sizes, [partial(block, train=train) for block in blocks])


VARIANTS = {"linknet": Architecture(LinkNetDecoder, default_encoder="resnet18", default_output_stride=32)}
