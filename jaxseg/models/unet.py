"""U-Net: an encoder, and a decoder that climbs back through the encoder's own resolutions."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.unet import UNetBlock, climb
from jaxseg.blocks.upsample import UPSAMPLING
from jaxseg.checks import lookup
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import HEAD_3X3, Architecture, check_channels


class Center(nn.Module):
    """Two convolutions on the deepest level, which segmentation_models_pytorch adds to VGG."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        for name in ("conv1", "conv2"):
            x = ConvNormAct(x.shape[-1], dtype=self.dtype, kernel_init=he_uniform, name=name)(x, train=train)
        return x


class UNetDecoder(nn.Module):
    """U-Net (Ronneberger et al., 2015, arXiv:1505.04597, fig. 1) on any encoder.

    As in segmentation_models_pytorch, and unlike the paper: a pretrained encoder, padded convolutions with batch
    normalization, nearest-neighbor enlargement (to each level's exact size, so that any image size works) unless
    `method` asks for another, such as transposed convolutions, and five levels. Attention is Roy et al.'s (2018,
    arXiv:1803.02579). The decoder starts from He's uniform initialization, the head from Glorot's.

    Outputs: "logits".
    """

    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)  # from the deepest block to the image's own size
    attention: str | None = None  # None, "se" or "scse"
    method: str = "nearest"  # of the enlargement: a key of `jaxseg.blocks.upsample.UPSAMPLING`
    center: bool = False  # two convolutions on the deepest level, as smp has them with VGG
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        check_channels(self, levels)
        x = levels.deepest
        if self.center:
            x = Center(self.dtype, name="center")(x, train=train)
        skips, sizes = levels.skips(size)
        upsampling = lookup(UPSAMPLING, self.method, "upsampling")
        blocks = [
            UNetBlock(features, self.attention, i < len(skips) - 1, self.dtype, name=f"block{i}")
            for i, features in enumerate(self.decoder_channels)
        ]
        return climb(
            x,
            skips,
            sizes,
            upsamples=[upsampling(dtype=self.dtype, name=f"upsample{i}") for i in range(len(blocks))],
            blocks=[partial(block, train=train) for block in blocks],
        )


VARIANTS = {"unet": Architecture(UNetDecoder, HEAD_3X3, default_encoder="resnet34", default_output_stride=32)}
