"""Mix Transformer (MiT), the encoder of SegFormer (Xie et al., 2021, arXiv:2105.15203, section 3.1 and table 6).

Written from the paper and from the names and shapes of published weights.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.layer_norm import LayerNorm
from jaxseg.blocks.mix_transformer import EfficientAttention, MixFFN
from jaxseg.encoders.dilation import replace_strides
from jaxseg.encoders.levels import Levels
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.variants import Variant

HEADS = (1, 2, 5, 8)
RATIOS = (8, 4, 2, 1)  # between positions and keys, along each axis
BlockNorm = partial(LayerNorm, epsilon=1e-6)  # within and after the blocks; the convolutions' have PyTorch's 1e-5


class MiTBlock(nn.Module):
    """Efficient self-attention and Mix-FFN, each normalized before and added to what came in: fig. 2, left."""

    heads: int
    ratio: int
    dilation: int = 1
    drop_path: float = 0.0  # probability that training skips either half for an image
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        def norm(x: Feature, name: str) -> Feature:
            return BlockNorm(dtype=self.dtype, name=name)(x, train=train)

        def add(x: Feature, y: Feature) -> Feature:
            drop = nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3))
            return x + (drop(y, deterministic=not train) if self.drop_path else y)

        attention = EfficientAttention(self.heads, self.ratio, self.dilation, dtype=self.dtype, name="attention")
        x = add(x, attention(norm(x, "norm1"), train=train))
        ffn = MixFFN(dilation=self.dilation, dtype=self.dtype, name="ffn")
        return add(x, ffn(norm(x, "norm2")))


class MiT(nn.Module):
    """Mix Transformer: c2 to c5 are its four stages, there is no c1.

    Patches are cut out by overlapping convolutions, with a bias. An output stride below 32 is not the paper's: as in
    segmentation_models_pytorch, every convolution of a stage that loses its stride is dilated, those that reduce the
    keys included, which makes attention there cost the square of the positions.
    """

    widths: tuple[int, int, int, int] = (64, 128, 320, 512)
    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)  # of each stage
    depth: int = 5  # the last level to compute, c`depth`; at least 2
    output_stride: int = 32
    drop_path: float = 0.0  # of the last block, linearly less before it (paper: 0.1); needs the rng "dropout"
    dtype: Any = jnp.float32

    output_strides = (8, 16, 32)
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Levels:
        plan = replace_strides((4, 2, 2, 2), stem=1, output_stride=self.output_stride, dilate_first=True)
        levels, done = {}, 0
        for index, (stage, width) in enumerate(zip(plan[: self.depth - 1], self.widths, strict=False), start=1):
            patch = ConvNormAct(
                width,
                7 if index == 1 else 3,
                stride=stage.stride,
                dilation=stage.dilation,
                activation=None,
                use_bias=True,
                norm=LayerNorm,
                dtype=self.dtype,
                name="stem" if index == 1 else f"stage{index}_patch",
            )
            x = patch(x, train=train)
            for i in range(self.blocks[index - 1]):
                x = MiTBlock(
                    HEADS[index - 1],
                    RATIOS[index - 1],
                    dilation=stage.dilation,
                    drop_path=self.drop_path * done / (sum(self.blocks) - 1),
                    dtype=self.dtype,
                    name=f"stage{index}_block{i}",
                )(x, train=train)
                done += 1
            x = BlockNorm(dtype=self.dtype, name=f"stage{index}_norm")(x, train=train)
            levels[f"c{index + 1}"] = x
        return Levels(levels, output_stride=self.output_stride)


VARIANTS = {
    "mit_b0": Variant(MiT, widths=(32, 64, 160, 256)),
    "mit_b1": MiT,
    "mit_b2": Variant(MiT, blocks=(3, 4, 6, 3)),
    "mit_b3": Variant(MiT, blocks=(3, 4, 18, 3)),
    "mit_b4": Variant(MiT, blocks=(3, 8, 27, 3)),
    "mit_b5": Variant(MiT, blocks=(3, 6, 40, 3)),
}
