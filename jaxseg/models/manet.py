"""MA-Net: a U-Net with attention over positions at its deepest level and over channels in the decoder."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.manet import MFAB, PAB
from jaxseg.blocks.unet import UNetBlock
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import HEAD_3X3, Architecture, check_channels
from jaxseg.ops.resize import resize


class MANetDecoder(nn.Module):
    """MA-Net (Fan et al., 2020, IEEE Access 8, ieeexplore.ieee.org/document/9201310) on any encoder.

    PAB on the deepest level, an MFAB at each of the encoder's finer levels, a plain block where it has none. As in
    segmentation_models_pytorch: the attention between positions is one softmax over all pairs of positions, and
    its result is read in another order than it was written (`joint`; the paper's, with a softmax for each position, is
    `joint=False`); the last block has no skip; enlargement is by nearest neighbors. The decoder starts from He's
    uniform initialization, the head from Glorot's. Attention maps are sown to the intermediates "attention" of
    "pab" and of each block's "weigh" and "weigh_skip".

    Outputs: "logits".
    """

    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)  # from the deepest block to the image's own size
    pab_features: int = 64  # of the position-wise attention
    joint: bool = True  # softmax over all pairs of positions; False: over the positions that each one attends to
    reduction: int = 16  # of the channels while they are weighed
    method: str = "nearest"  # of the enlargement: "nearest" or "bilinear"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        check_channels(self, levels)
        x = PAB(self.pab_features, self.joint, self.dtype, name="pab")(levels.deepest)
        for i, (features, skip, goal) in enumerate(zip(self.decoder_channels, *levels.skips(size), strict=True)):
            if skip is None:
                block = UNetBlock(features, attend_before=False, dtype=self.dtype, name=f"block{i}")
                x = resize(x, goal, self.method)
            else:
                block = MFAB(features, self.reduction, self.method, dtype=self.dtype, name=f"block{i}")
            x = block(x, skip, train=train)
        return x


VARIANTS = {"manet": Architecture(MANetDecoder, HEAD_3X3, default_encoder="resnet34", default_output_stride=32)}
