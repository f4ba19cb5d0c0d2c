"""DeepLabV3 and V3+: atrous convolutions side by side or one after the other, and a decoder for the borders."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.aspp import ASPP
from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.head import FCNHead, Head
from jaxseg.blocks.initializers import pytorch_uniform
from jaxseg.blocks.separable import SeparableConvNormAct
from jaxseg.encoders.resnet import Bottleneck
from jaxseg.models.unet import deepest
from jaxseg.ops.resize import resize_like

Function = Callable[[Feature], Feature]


class DeepLabV3(nn.Module):
    """DeepLabV3 (Chen et al., 2017, arXiv:1706.05587, fig. 5).

    After the ASPP, a further 3x3 convolution, as in segmentation_models_pytorch and torchvision. `rates` are the
    paper's for output stride 8; at 16 it has half of them. Its multi-grid of (1, 2, 4) is the encoder's: give
    `create_model` a ResNet and `encoder_options={"multi_grid": (1, 2, 4)}`. The new layers start from PyTorch's default
    initialisation, the scores from Glorot's.

    Outputs: "logits"; with `auxiliary` also "auxiliary", an FCN head on `auxiliary_level`, as torchvision trained
    it (on c3 of MobileNetV3).
    """

    encoder: nn.Module
    num_classes: int
    features: int = 256
    rates: Sequence[int] = (12, 24, 36)  # in pixels of the feature map
    separable: bool = False
    dropout: float = 0.5  # after the ASPP
    align_corners: bool = True  # of the final enlargement; torchvision's models have False
    auxiliary: bool = False
    auxiliary_level: str = "c4"
    dtype: Any = jnp.float32

    default_encoder = "resnet50"
    default_output_stride = 8

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        size = image.shape[1:3]
        levels = self.encoder(image, train=train)
        decoder = DeepLabV3Decoder(
            self.features, self.rates, self.separable, self.dropout, dtype=self.dtype, name="decoder"
        )
        head = Head(self.num_classes, align_corners=self.align_corners, dtype=self.dtype, name="head")
        outputs = {"logits": head(decoder(levels[f"c{deepest(levels)}"], train=train), size)}
        if self.auxiliary:
            head = FCNHead(self.num_classes, align_corners=self.align_corners, dtype=self.dtype, name="auxiliary")
            outputs["auxiliary"] = head(levels[self.auxiliary_level], size, train=train)
        return outputs


class DeepLabV3Decoder(nn.Module):
    """ASPP, dropout and a 3x3 convolution."""

    features: int = 256
    rates: Sequence[int] = (12, 24, 36)
    separable: bool = False
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        x = ASPP(self.features, self.rates, self.separable, dtype=self.dtype, name="aspp")(x, train=train)
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        conv = ConvNormAct(self.features, dtype=self.dtype, kernel_init=pytorch_uniform, name="conv")
        return conv(x, train=train)


def cascade(x: Feature, blocks: Sequence[Function]) -> Feature:
    """Goes deeper, block after block, at the resolution that the blocks leave it (V3, fig. 3)."""
    for block in blocks:
        x = block(x)
    return x


class DeepLabV3Cascade(nn.Module):
    """DeepLabV3 that goes deeper (Chen et al., 2017, arXiv:1706.05587, sections 3.1 and 3.2, fig. 3): blocks 5 to 7.

    Each further block has the form of ResNet-50's last one, block 4 (three bottlenecks as wide as c5), on any encoder.
    With `atrous` (fig. 3 b) it keeps the resolution and doubles the rate of the block before it, where without (fig.
    3 a) it halves the map, in its first bottleneck rather than its last. The multi-grid is the further blocks'; the
    paper has it in block 4 too: `encoder_options={"multi_grid": (1, 2, 1)}` with a ResNet of three blocks in the last
    stage. On ResNet-50 with 21 classes, 63,714,389 parameters, 40,163,328 of them in the three blocks.

    Outputs: "logits".
    """

    encoder: nn.Module
    num_classes: int
    blocks: int = 3  # beyond the encoder's four
    multi_grid: Sequence[int] = (1, 2, 1)  # factors of the rates within a block
    atrous: bool = True
    dtype: Any = jnp.float32

    default_encoder = "resnet50"
    default_output_stride = 16

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        x = self.encoder(image, train=train)["c5"]
        dilation = 32 // self.encoder.output_stride  # of block 4, whose stride is 32 when nothing is dilated
        decoder = CascadeDecoder(self.blocks, self.multi_grid, dilation, self.atrous, dtype=self.dtype, name="decoder")
        head = Head(self.num_classes, dtype=self.dtype, name="head")
        return {"logits": head(decoder(x, train=train), image.shape[1:3])}


class CascadeDecoder(nn.Module):
    """Blocks 5, 6, … of DeepLabV3."""

    blocks: int = 3
    multi_grid: Sequence[int] = (1, 2, 1)
    dilation: int = 1  # of the block before the first
    atrous: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        blocks = []
        for index in range(1, self.blocks + 1):
            rate = self.dilation * 2**index if self.atrous else 1
            for i, factor in enumerate(self.multi_grid):
                block = Bottleneck(
                    x.shape[-1] // 4,
                    stride=2 if i == 0 and not self.atrous else 1,
                    rates=(rate * factor,) * 2,
                    dtype=self.dtype,
                    name=f"block{4 + index}_unit{i}",
                )
                blocks.append(partial(block, train=train))
        return cascade(x, blocks)


def refine(context: Feature, detail: Feature, reduce: Function, fuse: Function) -> Feature:
    """Sharpens `context` by the encoder's early, finer features, reduced lest they outweigh it (V3+, fig. 2)."""
    detail = reduce(detail)
    return fuse(jnp.concatenate([resize_like(context, detail, align_corners=True), detail], axis=-1))


class DeepLabV3Plus(nn.Module):
    """DeepLabV3+ (Chen et al., 2018, arXiv:1802.02611, fig. 2).

    As in segmentation_models_pytorch: a separable 3x3 convolution after the ASPP and one after the fusion (the paper
    has two after the fusion), and enlargement with `align_corners`. `rates` are the paper's for output stride 16,
    where segmentation_models_pytorch has (12, 24, 36); double them for 8. The new layers start from PyTorch's default
    initialisation, the scores from Glorot's.

    Outputs: "logits".
    """

    encoder: nn.Module
    num_classes: int
    features: int = 256
    detail_features: int = 48  # of c2, where it joins
    rates: Sequence[int] = (6, 12, 18)  # in pixels of the feature map
    separable: bool = True
    dropout: float = 0.5  # after the ASPP
    dtype: Any = jnp.float32

    default_encoder = "resnet50"
    default_output_stride = 16

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        levels = self.encoder(image, train=train)
        decoder = DeepLabV3PlusDecoder(
            self.features,
            self.detail_features,
            self.rates,
            self.separable,
            self.dropout,
            dtype=self.dtype,
            name="decoder",
        )
        x = decoder(levels[f"c{deepest(levels)}"], levels["c2"], train=train)
        return {"logits": Head(self.num_classes, dtype=self.dtype, name="head")(x, image.shape[1:3])}


class DeepLabV3PlusDecoder(nn.Module):
    """ASPP on the coarsest level, refined by c2."""

    features: int = 256
    detail_features: int = 48
    rates: Sequence[int] = (6, 12, 18)
    separable: bool = True
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, detail: Feature, *, train: bool) -> Feature:
        options = {"dtype": self.dtype, "kernel_init": pytorch_uniform}
        x = ASPP(self.features, self.rates, self.separable, **options, name="aspp")(x, train=train)
        x = nn.Dropout(self.dropout)(x, deterministic=not train)
        return refine(
            context=SeparableConvNormAct(self.features, **options, name="context")(x, train=train),
            detail=detail,
            reduce=partial(ConvNormAct(self.detail_features, 1, **options, name="reduce"), train=train),
            fuse=partial(SeparableConvNormAct(self.features, **options, name="fuse"), train=train),
        )


VARIANTS = {
    "deeplabv3": DeepLabV3,
    "deeplabv3_cascade": DeepLabV3Cascade,
    "deeplabv3plus": DeepLabV3Plus,
}
