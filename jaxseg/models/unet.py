"""U-Net: an encoder, and a decoder that climbs back through the encoder's own resolutions."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.attention import ATTENTION
from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.head import Head
from jaxseg.blocks.initializers import he_uniform
from jaxseg.checks import UserError, lookup
from jaxseg.ops.resize import resize

Block = Callable[[Feature, Feature | None], Feature]


def climb(
    x: Feature,
    skips: Sequence[Feature | None],
    sizes: Sequence[tuple[int, int]],
    blocks: Sequence[Block],
    upsample: Callable[[Feature, tuple[int, int]], Feature],
) -> Feature:
    """Enlarges `x` step by step; at each size a block sees it beside the encoder's features of that size."""
    for skip, size, block in zip(skips, sizes, blocks, strict=True):
        x = block(upsample(x, size), skip)
    return x


class UNetBlock(nn.Module):
    """Two convolutions on `x` and the encoder's features, with attention before and after if asked for."""

    features: int
    attention: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, skip: Feature | None, *, train: bool) -> Feature:
        def attend(name):
            if self.attention is None:
                return lambda x: x
            return lookup(ATTENTION, self.attention, "attention")(dtype=self.dtype, name=name)

        if skip is not None:
            x = attend("attention1")(jnp.concatenate([x, skip], axis=-1))
        for name in ("conv1", "conv2"):
            layer = ConvNormAct(self.features, dtype=self.dtype, kernel_init=he_uniform, name=name)
            x = layer(x, train=train)
        return attend("attention2")(x)


class UNetDecoder(nn.Module):
    """The right-hand side of the U: from the deepest level up to the picture's own size."""

    channels: Sequence[int]
    attention: str | None = None
    method: str = "nearest"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: dict[str, Feature], size: tuple[int, int], *, train: bool) -> Feature:
        deepest = max(int(name[1:]) for name in levels)
        if len(self.channels) != deepest:
            raise UserError(
                f"decoder_channels {tuple(self.channels)} has {len(self.channels)} entries, expected {deepest}:"
                f" one for each halving of the encoder, whose deepest level is c{deepest}."
            )
        skips, sizes = [], []
        for depth in range(deepest - 1, -1, -1):  # 0 is the picture itself
            skip = levels.get(f"c{depth}")
            skips.append(skip)
            sizes.append(_size_at(depth, size) if skip is None else skip.shape[1:3])
        blocks = [
            UNetBlock(features, self.attention, self.dtype, name=f"block{i}")
            for i, features in enumerate(self.channels)
        ]
        return climb(
            levels[f"c{deepest}"],
            skips,
            sizes,
            blocks=[lambda x, skip, block=block: block(x, skip, train=train) for block in blocks],
            upsample=lambda x, size: resize(x, size, self.method),
        )


def _size_at(depth: int, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) after `depth` halvings, each rounded up, where the encoder has no level to show it."""
    height, width = (-(-n // 2**depth) for n in size)
    return height, width


class UNet(nn.Module):
    """U-Net (Ronneberger et al., 2015, arXiv:1505.04597, fig. 1) on any encoder.

    As in segmentation_models_pytorch, and unlike the paper: a pretrained encoder, padded convolutions with batch
    normalisation, nearest-neighbour enlargement instead of transposed convolutions (to each level's exact size, so
    that any picture size works), and five levels. Attention is Roy et al.'s (2018, arXiv:1803.02579). The decoder
    starts from He's uniform initialisation, the head from Glorot's.

    Outputs: "logits".
    """

    encoder: nn.Module
    num_classes: int
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)  # from the deepest block to the picture's own size
    attention: str | None = None  # None, "se" or "scse"
    method: str = "nearest"  # of the enlargement: "nearest" or "bilinear"
    dtype: Any = jnp.float32

    default_encoder = "resnet34"
    default_output_stride = 32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        size = image.shape[1:3]
        levels = self.encoder(image, train=train)
        decoder = UNetDecoder(self.decoder_channels, self.attention, self.method, self.dtype, name="decoder")
        head = Head(self.num_classes, kernel_size=3, dtype=self.dtype, name="head")
        return {"logits": head(decoder(levels, size, train=train), size)}


VARIANTS = {"unet": UNet}
