"""Stacked U-Nets: a residual network whose blocks are small U-Nets."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.blocks.conv import BatchNorm, Conv, Feature, conv_norm
from jaxseg.blocks.small_unet import NormActConv, StageHead, UNetModule
from jaxseg.checks import UserError
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.models.segmenter import check_images
from jaxseg.ops.pool import avg_pool
from jaxseg.variants import Variant


class StackedUNetEncoder(nn.Module):
    """A strided stem, and four stacks of U-Nets with 2x2 average pooling between them."""

    features: int
    stem_features: int
    widths: Sequence[int]
    counts: Sequence[int]
    finest: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> list[Feature]:
        stem = Conv(self.stem_features, 7, stride=2, use_bias=True, dtype=self.dtype, name="stem")
        x = nn.relu(conv_norm(stem, BatchNorm(dtype=self.dtype, name="residual_norm"), x, train=train))
        layer, width = partial(NormActConv, dtype=self.dtype), 2 * self.stem_features
        y = layer(width, stride=2, norm=False, name="residual_conv1")(x, train=train)
        y = layer(width, name="residual_conv2")(y, train=train)
        x = y + layer(width, 1, stride=2, norm=False, name="residual_shortcut")(x, train=train)
        stacks, stride, dilation = [], 4, 0
        for number, (width, count) in enumerate(zip(self.widths, self.counts, strict=True), start=1):
            depth = 1 if number == len(self.widths) else 2
            for i in range(count):
                name = f"stack{number}_unet{i}"
                x = UNetModule(self.features, width, depth, dilation, self.dtype, name=name)(x, train=train)
            stacks.append(x)
            if number < len(self.widths) and stride < self.finest:
                x, stride = avg_pool(x), 2 * stride
            else:
                dilation += 2
        return stacks


class StackedUNet(nn.Module):
    """Stacked U-Nets, SUNet (Shah et al., 2018, arXiv:1804.10343), in the dilated form, as the authors' code has it.

    `features`, `widths` and `counts` are SUNet-64's; variants "stacked_unet_128" and "stacked_unet_7_128". With
    ImageNet's 1000 classes they have 6,910,248, 24,704,360 and 39,113,832 parameters, as the layers of that code have
    when added up. Past a stride of `finest` pixels the pooling between the stacks is left out, and the U-Nets behind it
    dilate instead of striding; parameters do not depend on it. Unlike there: `finest` may be 4, there is no dropout
    (its rate is 1e-7), and there are no degridding filters.

    Outputs: "logits"; with `every_stage` also "stage1", "stage2" and "stage3", scores after each earlier stack.
    """

    num_classes: int
    features: int = 64  # inside the U-Nets
    stem_features: int = 64
    widths: Sequence[int] = (256, 512, 768, 1024)  # of the stacks
    counts: Sequence[int] = (2, 4, 4, 1)  # U-Nets in each stack
    finest: int = 16  # stride of the last stack, in pixels: 4, 8, 16 or 32
    every_stage: bool = False
    dtype: Any = jnp.float32
    in_channels: int | None = None  # of the images, as for `create_model`
    head_dtype: Any = None  # of the scores; None is `dtype`

    default_encoder = None
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD
    stem = ("encoder", "stem")

    @nn.compact
    def __call__(self, image: Float[ArrayLike, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        image = check_images(self, image, self.in_channels)
        if self.finest not in (4, 8, 16, 32) or len(self.widths) != len(self.counts):
            raise UserError(
                f"finest is 4, 8, 16 or 32, got {self.finest!r}; widths {tuple(self.widths)} and counts"
                f" {tuple(self.counts)} have one entry a stack each."
            )
        encoder = StackedUNetEncoder(
            self.features, self.stem_features, self.widths, self.counts, self.finest, self.dtype, name="encoder"
        )
        *earlier, last = encoder(image, train=train)
        head, size = partial(StageHead, self.num_classes, self.dtype, self.head_dtype), image.shape[1:3]
        outputs = {"logits": head(name="head")(last, size, train=train)}
        for number, x in enumerate(earlier if self.every_stage else [], start=1):
            outputs[f"stage{number}"] = head(name=f"stage{number}")(x, size, train=train)
        return outputs


VARIANTS = {
    "stacked_unet": StackedUNet,
    "stacked_unet_128": Variant(StackedUNet, features=128, widths=(512, 1024, 1536, 2048)),
    "stacked_unet_7_128": Variant(StackedUNet, features=128, widths=(512, 1280, 2048, 2304), counts=(2, 7, 7, 1)),
}
