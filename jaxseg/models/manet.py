"""MA-Net: a U-Net that attends to positions at its deepest level and to channels on the way up."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.head import Head
from jaxseg.blocks.manet import MFAB, PAB
from jaxseg.models.unet import UNetBlock, check_channels, deepest, way_up
from jaxseg.ops.resize import resize


class MANetDecoder(nn.Module):
    """PAB on the deepest level, an MFAB at each of the encoder's finer levels, a plain block where it has none."""

    channels: Sequence[int]
    pab_features: int = 64
    joint: bool = True
    reduction: int = 16
    method: str = "nearest"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: dict[str, Feature], size: tuple[int, int], *, train: bool) -> Feature:
        check_channels(self.channels, levels)
        x = PAB(self.pab_features, self.joint, self.dtype, name="pab")(levels[f"c{deepest(levels)}"])
        for i, (features, skip, goal) in enumerate(zip(self.channels, *way_up(levels, size), strict=True)):
            if skip is None:
                block = UNetBlock(features, attend_before=False, dtype=self.dtype, name=f"block{i}")
                x = resize(x, goal, self.method)
            else:
                block = MFAB(features, self.reduction, self.method, dtype=self.dtype, name=f"block{i}")
            x = block(x, skip, train=train)
        return x


class MANet(nn.Module):
    """MA-Net (Fan et al., 2020, IEEE Access 8, ieeexplore.ieee.org/document/9201310) on any encoder.

    As in segmentation_models_pytorch: the attention between positions is one softmax over all pairs of positions, and
    its result is read in another order than it was written (`joint`; the paper's, with a softmax for each position, is
    `joint=False`); the last block has no skip; enlargement is by nearest neighbours. The decoder starts from He's
    uniform initialisation, the head from Glorot's. The attention is found under the intermediates "attention" of
    "pab" and of each block's "weigh" and "weigh_skip".

    Outputs: "logits".
    """

    encoder: nn.Module
    num_classes: int
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)  # from the deepest block to the picture's own size
    pab_features: int = 64  # of the position-wise attention
    joint: bool = True  # softmax over all pairs of positions; False: over the positions that each one attends to
    reduction: int = 16  # of the channels while they are weighed
    method: str = "nearest"  # of the enlargement: "nearest" or "bilinear"
    dtype: Any = jnp.float32

    default_encoder = "resnet34"
    default_output_stride = 32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        size = image.shape[1:3]
        levels = self.encoder(image, train=train)
        options = (self.decoder_channels, self.pab_features, self.joint, self.reduction, self.method, self.dtype)
        x = MANetDecoder(*options, name="decoder")(levels, size, train=train)
        return {"logits": Head(self.num_classes, kernel_size=3, dtype=self.dtype, name="head")(x, size)}


VARIANTS = {"manet": MANet}
