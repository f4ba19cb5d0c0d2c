"""BiFPN for segmentation: a pyramid of learned averages, down and up several times, read at its finest level."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.bifpn import BiFPN
from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.head import Head
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.separable import SeparableConvNormAct
from jaxseg.ops.max_pool import max_pool


class BiFPNDecoder(nn.Module):
    """Levels 2 to 7, the repeated pyramid, and separable convolutions on its finest level.

    Levels 6 and 7 are c5 projected and max-pooled, once and twice.
    """

    pyramid_features: int = 128
    repeats: int = 3
    features: int = 256
    convs: int = 3
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: dict[str, Feature], *, train: bool) -> Feature:
        def lateral(name, x):
            options = {"activation": None, "dtype": self.dtype, "kernel_init": he_uniform}
            return ConvNormAct(self.pyramid_features, 1, name=f"lateral_{name}", **options)(x, train=train)

        names = ("c5", "c4", "c3", "c2")
        sixth = max_pool(lateral("c6", levels["c5"]), 3)
        pyramid = [max_pool(sixth, 3), sixth, *(lateral(name, levels[name]) for name in names)]
        for i in range(1, self.repeats + 1):
            layer = BiFPN(self.pyramid_features, back_up=i < self.repeats, dtype=self.dtype, name=f"bifpn{i}")
            pyramid = layer(pyramid, train=train)
        x = pyramid[-1]
        for i in range(1, self.convs + 1):
            layer = partial(SeparableConvNormAct, activation=nn.swish, dtype=self.dtype, kernel_init=he_uniform)
            x = layer(self.features, name=f"conv{i}")(x, train=train)
        return x


class BiFPNModel(nn.Module):
    """EfficientDet's BiFPN for segmentation (Tan et al., 2019, arXiv:1911.09070, fig. 2 d and section 5.2).

    As in the paper: levels 2 to 7, 128 channels in the pyramid and 256 in the head, both repeated three times, and the
    scores from level 2 alone. So the last layer ends at level 2 and has no way back up, which the paper computes and
    discards. One 1x1 projection a level serves both ways, where the authors' code has two for some levels. The
    encoder is any, the paper's an EfficientNet.

    Outputs: "logits".
    """

    encoder: nn.Module
    num_classes: int
    pyramid_features: int = 128
    repeats: int = 3  # layers of the pyramid
    features: int = 256  # of the head
    convs: int = 3  # separable convolutions of the head
    dtype: Any = jnp.float32

    default_encoder = "resnet50"
    default_output_stride = 32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        levels = self.encoder(image, train=train)
        decoder = BiFPNDecoder(
            self.pyramid_features, self.repeats, self.features, self.convs, self.dtype, name="decoder"
        )
        x = decoder(levels, train=train)
        return {"logits": Head(self.num_classes, dtype=self.dtype, name="head")(x, image.shape[1:3])}


VARIANTS = {"bifpn": BiFPNModel}
