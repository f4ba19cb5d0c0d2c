"""DeepLabV3 and V3+: atrous convolutions in parallel or in cascade, and a decoder for sharper borders."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.aspp import ASPP
from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.head import Head
from jaxseg.blocks.initializers import pytorch_uniform
from jaxseg.blocks.separable import SeparableConvNormAct
from jaxseg.blocks.types import Function
from jaxseg.encoders.levels import Levels
from jaxseg.encoders.resnet import Bottleneck
from jaxseg.models.parts import Architecture, AuxiliaryHead, Option
from jaxseg.ops.resize import resize_like
from jaxseg.variants import Variant


class DeepLabV3Decoder(nn.Module):
    """DeepLabV3 (Chen et al., 2017, arXiv:1706.05587, fig. 5).

    After the ASPP, a further 3x3 convolution, as in segmentation_models_pytorch and torchvision. `rates` are the
    paper's for output stride 8; at 16 it has half of them. Its multi-grid of (1, 2, 4) is the encoder's: give
    `create_model` a ResNet and `encoder_options={"multi_grid": (1, 2, 4)}`. The new layers start from PyTorch's default
    initialization, the scores from Glorot's.

    Outputs: "logits"; with `auxiliary` also "auxiliary", an FCN head on `auxiliary_level`, as torchvision trained
    it (on c3 of MobileNetV3).
    """

    features: int = 256
    rates: Sequence[int] = (12, 24, 36)  # in pixels of the feature map
    separable: bool = False
    dropout: float = 0.5  # after the ASPP
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        aspp = ASPP(self.features, self.rates, self.separable, dtype=self.dtype, name="aspp")
        x = nn.Dropout(self.dropout)(aspp(levels.deepest, train=train), deterministic=not train)
        conv = ConvNormAct(self.features, dtype=self.dtype, kernel_init=pytorch_uniform, name="conv")
        return conv(x, train=train)


def cascade(x: Feature, blocks: Sequence[Function]) -> Feature:
    """Applies further blocks one after the other (V3, fig. 3)."""
    for block in blocks:
        x = block(x)
    return x


class CascadeDecoder(nn.Module):
    """DeepLabV3 that goes deeper (Chen et al., 2017, arXiv:1706.05587, sections 3.1 and 3.2, fig. 3): blocks 5 to 7.

    Each further block has the form of ResNet-50's last one, block 4 (three bottlenecks as wide as c5), on any encoder.
    With `atrous` (fig. 3 b) it keeps the resolution and doubles the rate of the block before it, where without (fig.
    3 a) it halves the map, in its first bottleneck rather than its last. The multi-grid is the further blocks'; the
    paper has it in block 4 too: `encoder_options={"multi_grid": (1, 2, 1)}` with a ResNet of three blocks in the last
    stage. On ResNet-50 with 21 classes, 63,714,389 parameters, 40,163,328 of them in the three blocks.

    Outputs: "logits".
    """

    blocks: int = 3  # beyond the encoder's four
    multi_grid: Sequence[int] = (1, 2, 1)  # factors of the rates within a block
    atrous: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        x, dilation = levels["c5"], 32 // levels.stride("c5")  # of block 4, whose stride is 32 when nothing is dilated
        blocks = []
        for index in range(1, self.blocks + 1):
            doubled = dilation * 2**index if self.atrous else 1
            for i, factor in enumerate(self.multi_grid):
                block = Bottleneck(
                    x.shape[-1] // 4,
                    stride=2 if i == 0 and not self.atrous else 1,
                    dilations=(doubled * factor,) * 2,
                    dtype=self.dtype,
                    name=f"block{4 + index}_unit{i}",
                )
                blocks.append(partial(block, train=train))
        return cascade(x, blocks)


def refine(context: Feature, detail: Feature, reduce: Function, fuse: Function) -> Feature:
    """Fuses the resized `context` with early features of the encoder, reduced to few channels (V3+, fig. 2)."""
    detail = reduce(detail)
    return fuse(jnp.concatenate([resize_like(context, detail, align_corners=True), detail], axis=-1))


class DeepLabV3PlusDecoder(nn.Module):
    """DeepLabV3+ (Chen et al., 2018, arXiv:1802.02611, fig. 2).

    As in segmentation_models_pytorch: a separable 3x3 convolution after the ASPP and one after the fusion (the paper
    has two after the fusion), and enlargement with `align_corners`. `rates` are the paper's for output stride 16,
    where segmentation_models_pytorch has (12, 24, 36); double them for 8. The new layers start from PyTorch's default
    initialization, the scores from Glorot's.

    Outputs: "logits".
    """

    features: int = 256
    detail_features: int = 48  # of c2, where it joins
    rates: Sequence[int] = (6, 12, 18)  # in pixels of the feature map
    separable: bool = True
    dropout: float = 0.5  # after the ASPP
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        options = {"dtype": self.dtype, "kernel_init": pytorch_uniform}
        aspp = ASPP(self.features, self.rates, self.separable, **options, name="aspp")
        x = nn.Dropout(self.dropout)(aspp(levels.deepest, train=train), deterministic=not train)
        return refine(
            context=SeparableConvNormAct(self.features, **options, name="context")(x, train=train),
            detail=levels["c2"],
            reduce=partial(ConvNormAct(self.detail_features, 1, **options, name="reduce"), train=train),
            fuse=partial(SeparableConvNormAct(self.features, **options, name="fuse"), train=train),
        )


ALIGN_CORNERS = Option("align_corners", True)  # of the final enlargement; torchvision's models have False
VARIANTS = {
    "deeplabv3": Architecture(
        DeepLabV3Decoder,
        Variant(Head, align_corners=ALIGN_CORNERS),
        auxiliary=Variant(AuxiliaryHead, level=Option("auxiliary_level", "c4"), align_corners=ALIGN_CORNERS),
        default_encoder="resnet50",
        default_output_stride=8,
    ),
    "deeplabv3_cascade": Architecture(CascadeDecoder, default_encoder="resnet50", default_output_stride=16),
    "deeplabv3plus": Architecture(DeepLabV3PlusDecoder, default_encoder="resnet50", default_output_stride=16),
}
