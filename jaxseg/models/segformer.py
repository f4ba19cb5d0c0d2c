"""SegFormer: a transformer that keeps four resolutions, and a decoder of little more than four matrices."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.head import Head
from jaxseg.blocks.mlp_head import MLPHead


class SegFormer(nn.Module):
    """SegFormer (Xie et al., 2021, arXiv:2105.15203, fig. 2): c2 to c5 of a Mix Transformer, and the all-MLP decoder.

    `features` is 256 in the paper with MiT-B0 and B1, 768 with B2 to B5; with 150 classes the parameters are then 3.8,
    13.7, 27.5, 47.3, 64.1 and 84.7 million (table 1a). As in segmentation_models_pytorch: any encoder, no dropout
    before the scores, and a final enlargement with `align_corners`; its own models have c1 among the levels too, where
    the encoder has one. The projections and the head start from Glorot's uniform initialisation, the fusion from He's.

    Outputs: "logits".
    """

    encoder: nn.Module
    num_classes: int
    features: int = 256  # of every level's projection and of the fused map
    levels: Sequence[str] = ("c2", "c3", "c4", "c5")  # of the encoder; those that it lacks are left out
    dtype: Any = jnp.float32

    default_encoder = "mit_b0"
    default_output_stride = 32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        levels = {name: x for name, x in self.encoder(image, train=train).items() if name in self.levels}
        x = MLPHead(self.features, dtype=self.dtype, name="decoder")(levels, train=train)
        return {"logits": Head(self.num_classes, dtype=self.dtype, name="head")(x, image.shape[1:3])}


VARIANTS = {"segformer": SegFormer}
