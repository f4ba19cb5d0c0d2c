"""PAN: pyramid attention at the deepest level, and channel attention in the decoder."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.fpa import FPA
from jaxseg.blocks.gau import GAU
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import HEAD_3X3, Architecture, check_depth


class PANDecoder(nn.Module):
    """Pyramid attention network (Li et al., 2018, arXiv:1805.10180, fig. 2).

    FPA on the deepest level, then a GAU for each level up to c2. As in segmentation_models_pytorch: 32 features, a 3x3
    convolution to the scores, enlargement with `align_corners`, and the blocks of its `FPA` and `GAU` here (which say
    what differs). Their attention is found under the intermediates "attention" of "fpa" and "gau_c4" to "gau_c2". The
    paper's encoder is ResNet-101 dilated to output stride 16, with three 3x3 convolutions in place of its first. The
    decoder starts from He's uniform initialization, the head from Glorot's.

    Outputs: "logits".
    """

    features: int = 32
    method: str = "bilinear"  # of the enlargement in each GAU: "bilinear", with aligned corners, or "nearest"
    conv_bias: bool = False  # in convolutions before BatchNorm: no effect on the output, but smp's weights contain it
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        check_depth(levels, 2, "A PAN")
        deepest, *finer = levels.names(finest=2)
        options = {"conv_bias": self.conv_bias, "dtype": self.dtype}
        x = FPA(self.features, **options, name="fpa")(levels[deepest], train=train)
        for name in finer:
            x = GAU(self.features, self.method, **options, name=f"gau_{name}")(levels[name], x, train=train)
        return x


VARIANTS = {"pan": Architecture(PANDecoder, HEAD_3X3, default_encoder="resnet101", default_output_stride=16)}
