"""BiFPN for segmentation: repeated top-down and bottom-up passes with learned averages."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.bifpn import BiFPN
from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.separable import SeparableConvNormAct
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import Architecture
from jaxseg.ops.max_pool import max_pool


class BiFPNDecoder(nn.Module):
    """EfficientDet's BiFPN for segmentation (Tan et al., 2019, arXiv:1911.09070, fig. 2 d and section 5.2).

    As in the paper: levels 2 to 7 (6 and 7 are c5 projected and max-pooled, once and twice), 128 channels in the
    pyramid and 256 in the head, both repeated three times, and the scores from level 2 alone. So the last layer ends at
    level 2, without the bottom-up pass that the paper computes and discards. Both passes share one 1x1 projection per
    level, where the authors' code has two for some levels. The encoder is any, the paper's an EfficientNet.

    Outputs: "logits".
    """

    pyramid_features: int = 128
    repeats: int = 3  # layers of the pyramid
    features: int = 256  # of the separable convolutions on its finest level
    convs: int = 3  # of these
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        def lateral(name: str, x: Feature) -> Feature:
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


VARIANTS = {"bifpn": Architecture(BiFPNDecoder, default_encoder="resnet50", default_output_stride=32)}
