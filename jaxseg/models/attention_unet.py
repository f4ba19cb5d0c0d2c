"""Attention U-Net: a U-Net whose decoder weights the positions of the encoder's features."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.attention_gate import AttentionGate
from jaxseg.blocks.conv import Feature
from jaxseg.blocks.unet import Block, UNetBlock
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import HEAD_3X3, Architecture, check_channels
from jaxseg.ops.resize import resize

Gate = Callable[[Feature, Feature], Feature]


def climb_gated(
    x: Feature,
    skips: Sequence[Feature | None],
    sizes: Sequence[tuple[int, int]],
    gates: Sequence[Gate | None],
    blocks: Sequence[Block],
    upsample: Callable[[Feature, tuple[int, int]], Feature],
) -> Feature:
    """Upsamples `x` step by step; each block gets it and the encoder's features, gated by the coarser `x`.

    Features whose gate is None are not gated.
    """
    for skip, size, gate, block in zip(skips, sizes, gates, blocks, strict=True):
        x = block(upsample(x, size), skip if gate is None else gate(skip, x))
    return x


class AttentionUNetDecoder(nn.Module):
    """Attention U-Net (Oktay et al., 2018, arXiv:1804.03999, fig. 1) on any encoder.

    Each skip but the finest is multiplied by weights per position, from an additive gate of the skip and the decoder's
    features one level deeper. Unlike the paper: images instead of volumes, a pretrained encoder
    whose finest features have half the image's size, a deepest level that gates as it is (the authors' code filters
    it once more), and one head (there, the scores of every level of the decoder are joined). The gates' weights are
    the intermediates "attention" of "decoder"'s "gate0", "gate1", … from the deepest up. The decoder starts from He's
    uniform initialization, the head from Glorot's.

    Outputs: "logits".
    """

    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)  # from the deepest block to the image's own size
    gate_features: int | None = None  # channels in which a gate compares; None is as many as the skip has
    method: str = "bilinear"  # of the enlargement: "nearest" or "bilinear"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        check_channels(self, levels)
        skips, sizes = levels.skips(size)
        gated = [i for i, skip in enumerate(skips) if skip is not None][:-1]
        return climb_gated(
            levels.deepest,
            skips,
            sizes,
            gates=[
                AttentionGate(self.gate_features, self.dtype, name=f"gate{i}") if i in gated else None
                for i in range(len(skips))
            ],
            blocks=[
                partial(UNetBlock(features, dtype=self.dtype, name=f"block{i}"), train=train)
                for i, features in enumerate(self.decoder_channels)
            ],
            upsample=partial(resize, method=self.method),
        )


VARIANTS = {
    "attention_unet": Architecture(AttentionUNetDecoder, HEAD_3X3, default_encoder="resnet34", default_output_stride=32)
}
