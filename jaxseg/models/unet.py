"""U-Net: an encoder, and a decoder that climbs back through the encoder's own resolutions."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.attention import ATTENTION
from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.head import Head
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.upsample import UPSAMPLING
from jaxseg.checks import UserError, lookup

Block = Callable[[Feature, Feature | None], Feature]


def climb(
    x: Feature,
    skips: Sequence[Feature | None],
    sizes: Sequence[tuple[int, int]],
    upsamples: Sequence[Callable[[Feature, tuple[int, int]], Feature]],
    blocks: Sequence[Block],
) -> Feature:
    """Enlarges `x` step by step; at each size a block sees it beside the encoder's features of that size."""
    for skip, size, upsample, block in zip(skips, sizes, upsamples, blocks, strict=True):
        x = block(upsample(x, size), skip)
    return x


def way_up(levels: dict[str, Feature], size: tuple[int, int]) -> tuple[list[Feature | None], list[tuple[int, int]]]:
    """The encoder's features on the way from its deepest level to the picture, the deepest left out, and their sizes.

    Where it has none (at the picture's own size, or at an absent level) there is None; the size is then that of the
    picture after as many halvings, each rounded down as smp's placeholders for absent levels are.
    """
    skips, sizes = [], []
    for depth in reversed(range(deepest(levels))):  # 0 is the picture itself
        skip = levels.get(f"c{depth}")
        height, width = (max(1, n // 2**depth) for n in size)
        skips.append(skip)
        sizes.append((height, width) if skip is None else skip.shape[1:3])
    return skips, sizes


def deepest(levels: dict[str, Feature]) -> int:
    """The number of the deepest level.

    >>> deepest({"c1": ..., "c2": ...})
    2
    """
    return max(int(name[1:]) for name in levels)


def check_channels(channels: Sequence[int], levels: dict[str, Feature]) -> None:
    """Raises a `UserError` unless there is a number of channels for each block of the decoder."""
    if len(channels) != deepest(levels):
        raise UserError(
            f"decoder_channels {tuple(channels)} has {len(channels)} entries, expected {deepest(levels)}:"
            f" one for each halving of the encoder, whose deepest level is c{deepest(levels)}."
        )


class UNetBlock(nn.Module):
    """Two convolutions on `x` and the encoder's features, with attention before and after if asked for."""

    features: int
    attention: str | None = None
    attend_before: bool = True  # the block at the picture's own size, which no encoder's features join, does not
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, skip: Feature | None, *, train: bool) -> Feature:
        def attend(name):
            if self.attention is None:
                return lambda x: x
            return lookup(ATTENTION, self.attention, "attention")(dtype=self.dtype, name=name)

        if skip is not None:
            x = jnp.concatenate([x, skip], axis=-1)
        if self.attend_before:
            x = attend("attention1")(x)
        for name in ("conv1", "conv2"):
            layer = ConvNormAct(self.features, dtype=self.dtype, kernel_init=he_uniform, name=name)
            x = layer(x, train=train)
        return attend("attention2")(x)


class Center(nn.Module):
    """Two convolutions on the deepest level, which segmentation_models_pytorch adds to VGG."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        for name in ("conv1", "conv2"):
            x = ConvNormAct(x.shape[-1], dtype=self.dtype, kernel_init=he_uniform, name=name)(x, train=train)
        return x


class UNetDecoder(nn.Module):
    """The right-hand side of the U: from the deepest level up to the picture's own size."""

    channels: Sequence[int]
    attention: str | None = None
    method: str = "nearest"
    center: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: dict[str, Feature], size: tuple[int, int], *, train: bool) -> Feature:
        check_channels(self.channels, levels)
        x = levels[f"c{deepest(levels)}"]
        if self.center:
            x = Center(self.dtype, name="center")(x, train=train)
        skips, sizes = way_up(levels, size)
        upsampling = lookup(UPSAMPLING, self.method, "upsampling")
        blocks = [
            UNetBlock(features, self.attention, i < len(skips) - 1, self.dtype, name=f"block{i}")
            for i, features in enumerate(self.channels)
        ]
        return climb(
            x,
            skips,
            sizes,
            upsamples=[upsampling(dtype=self.dtype, name=f"upsample{i}") for i in range(len(blocks))],
            blocks=[partial(block, train=train) for block in blocks],
        )


class UNet(nn.Module):
    """U-Net (Ronneberger et al., 2015, arXiv:1505.04597, fig. 1) on any encoder.

    As in segmentation_models_pytorch, and unlike the paper: a pretrained encoder, padded convolutions with batch
    normalisation, nearest-neighbour enlargement (to each level's exact size, so that any picture size works) unless
    `method` asks for another, such as transposed convolutions, and five levels. Attention is Roy et al.'s (2018,
    arXiv:1803.02579). The decoder starts from He's uniform initialisation, the head from Glorot's.

    Outputs: "logits".
    """

    encoder: nn.Module
    num_classes: int
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)  # from the deepest block to the picture's own size
    attention: str | None = None  # None, "se" or "scse"
    method: str = "nearest"  # of the enlargement: a key of `jaxseg.blocks.upsample.UPSAMPLING`
    center: bool = False  # two convolutions on the deepest level, as smp has them with VGG
    dtype: Any = jnp.float32

    default_encoder = "resnet34"
    default_output_stride = 32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        size = image.shape[1:3]
        levels = self.encoder(image, train=train)
        decoder = UNetDecoder(
            self.decoder_channels, self.attention, self.method, self.center, self.dtype, name="decoder"
        )
        head = Head(self.num_classes, kernel_size=3, dtype=self.dtype, name="head")
        return {"logits": head(decoder(levels, size, train=train), size)}


VARIANTS = {"unet": UNet}
