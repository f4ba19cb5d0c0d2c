"""A 2-D U-Net as nnU-Net makes it, for its published training speed; it is measured, not offered for training."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Conv, Feature, GroupNorm
from jaxseg.blocks.upsample import ConvTranspose

WIDTHS = (32, 64, 128, 256, 512, 512)  # channels of each level, from the image's own size on


class Convs(nn.Module):
    """Two 3x3 convolutions, each with instance normalization and a leaky ReLU."""

    features: int
    stride: int = 1  # of the first
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        for i, stride in enumerate((self.stride, 1), start=1):
            x = Conv(self.features, 3, stride=stride, dtype=self.dtype, name=f"conv{i}")(x)
            x = GroupNorm(groups=self.features, dtype=self.dtype, name=f"norm{i}")(x, train=train)
            x = nn.leaky_relu(x, 0.01)
        return x


class NnUNet2d(nn.Module):
    """nnU-Net in 2-D (Isensee et al., 2021, doi:10.1038/s41592-020-01008-z), for images of 192 x 160 pixels.

    As many parameters as MONAI's DynUNet of these levels.
    Six levels, strided convolutions down, transposed ones up, two convolutions a level, instance normalization.
    Without deep supervision, and trained by the step of `jaxseg train`: cross entropy and AdamW.

    Outputs: "logits".
    """

    num_classes: int
    widths: Sequence[int] = WIDTHS
    dtype: Any = jnp.float32
    in_channels: int | None = 4

    pixel_mean = (127.5, 127.5, 127.5)
    pixel_std = (64.0, 64.0, 64.0)

    @nn.compact
    def __call__(self, image: Float[ArrayLike, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        convs = partial(Convs, dtype=self.dtype)
        x, skips = jnp.asarray(image).astype(self.dtype), []
        for level, width in enumerate(self.widths):
            x = convs(width, stride=1 if level == 0 else 2, name=f"down{level}")(x, train=train)
            skips.append(x)
        for level in reversed(range(len(self.widths) - 1)):
            width, skip = self.widths[level], skips[level]
            x = ConvTranspose(width, dtype=self.dtype, name=f"enlarge{level}")(x)
            x = convs(width, name=f"up{level}")(jnp.concatenate([skip, x], axis=-1), train=train)
        logits = Conv(self.num_classes, 1, use_bias=True, dtype=self.dtype, name="head")(x)
        return {"logits": logits.astype(jnp.float32)}
