"""FPN: a pyramid of features with one meaning, from one encoder, and a mask from all of its levels."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.head import Head
from jaxseg.blocks.pyramid import laterals, mask_branches, merge, top_down


class FPNDecoder(nn.Module):
    """The feature pyramid and the branches that merge it, on levels c2 to c5."""

    pyramid_features: int = 256
    features: int = 128
    method: str = "nearest"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: dict[str, Feature], *, train: bool) -> Feature:
        names = ("c5", "c4", "c3", "c2")

        inward = laterals(names, self.pyramid_features, dtype=self.dtype)
        pyramid = top_down([levels[name] for name in names], inward, self.method)
        return merge(pyramid, mask_branches(names, self.features, train=train, dtype=self.dtype))


class FPN(nn.Module):
    """Feature pyramid network (Lin et al., 2016, arXiv:1612.03144) with the mask branch of Panoptic FPN (Kirillov et
    al., 2019, arXiv:1901.02446, fig. 3).

    As in segmentation_models_pytorch: dropout of whole channels before the last convolution, and enlargement with
    `align_corners`, each level to the exact size of the next finer one. The decoder starts from He's uniform
    initialisation, the head from Glorot's.

    Outputs: "logits".
    """

    encoder: nn.Module
    num_classes: int
    pyramid_features: int = 256
    features: int = 128  # of the merged map
    dropout: float = 0.2  # of whole channels
    method: str = "nearest"  # of the enlargement on the way down the pyramid: "nearest" or "bilinear"
    dtype: Any = jnp.float32

    default_encoder = "resnet50"
    default_output_stride = 32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        levels = self.encoder(image, train=train)
        decoder = FPNDecoder(self.pyramid_features, self.features, self.method, self.dtype, name="decoder")
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2))(decoder(levels, train=train), deterministic=not train)
        return {"logits": Head(self.num_classes, dtype=self.dtype, name="head")(x, image.shape[1:3])}


VARIANTS = {"fpn": FPN}
