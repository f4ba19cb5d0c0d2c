"""PAN: attention over a pyramid at the deepest level, and over channels on the way up."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.fpa import FPA
from jaxseg.blocks.gau import GAU
from jaxseg.blocks.head import Head
from jaxseg.models.unet import deepest


class PANDecoder(nn.Module):
    """FPA on the deepest level, then a GAU for each level up to c2."""

    features: int = 32
    method: str = "bilinear"
    conv_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: dict[str, Feature], *, train: bool) -> Feature:
        last = deepest(levels)
        options = {"conv_bias": self.conv_bias, "dtype": self.dtype}
        x = FPA(self.features, **options, name="fpa")(levels[f"c{last}"], train=train)
        for i in range(last - 1, 1, -1):
            x = GAU(self.features, self.method, **options, name=f"gau_c{i}")(levels[f"c{i}"], x, train=train)
        return x


class PAN(nn.Module):
    """Pyramid attention network (Li et al., 2018, arXiv:1805.10180, fig. 2).

    As in segmentation_models_pytorch: 32 features, a 3x3 convolution to the scores, enlargement with
    `align_corners`, and the blocks of its `FPA` and `GAU` here (which say what differs). Their attention is found
    under the intermediates "attention" of "fpa" and "gau_c4" to "gau_c2". The paper's encoder is ResNet-101 dilated
    to output stride 16, with three 3x3 convolutions in place of its first. The decoder starts from He's uniform
    initialisation, the head from Glorot's.

    Outputs: "logits".
    """

    encoder: nn.Module
    num_classes: int
    features: int = 32
    method: str = "bilinear"  # of the enlargement in each GAU: "bilinear", with aligned corners, or "nearest"
    conv_bias: bool = False  # before each normalisation, which takes it away again; smp's weights have it
    dtype: Any = jnp.float32

    default_encoder = "resnet101"
    default_output_stride = 16

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        levels = self.encoder(image, train=train)
        x = PANDecoder(self.features, self.method, self.conv_bias, self.dtype, name="decoder")(levels, train=train)
        head = Head(self.num_classes, kernel_size=3, dtype=self.dtype, name="head")
        return {"logits": head(x, image.shape[1:3])}


VARIANTS = {"pan": PAN}
