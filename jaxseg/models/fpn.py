"""FPN: a pyramid of features with one meaning, from one encoder, and a mask from all of its levels."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.head import Head
from jaxseg.blocks.pyramid import add, laterals, mask_branches, merge, top_down
from jaxseg.checks import lookup
from jaxseg.models.unet import deepest


class FPNDecoder(nn.Module):
    """The feature pyramid and the branches that merge it, on the four deepest levels."""

    pyramid_features: int = 256
    features: int = 128
    method: str = "nearest"
    policy: str = "add"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: dict[str, Feature], *, train: bool) -> Feature:
        last = deepest(levels)
        names = [f"c{i}" for i in range(last, last - 4, -1)]
        inward = laterals(names, self.pyramid_features, dtype=self.dtype)
        pyramid = top_down([lookup(levels, name, "level of the encoder") for name in names], inward, self.method)
        join = lookup({"add": add, "cat": partial(jnp.concatenate, axis=-1)}, self.policy, "policy of merging")
        return merge(pyramid, mask_branches(names, self.features, train=train, dtype=self.dtype), join)


class FPN(nn.Module):
    """Feature pyramid network (Lin et al., 2016, arXiv:1612.03144) with the mask branch of Panoptic FPN (Kirillov et
    al., 2019, arXiv:1901.02446, fig. 3).

    As in segmentation_models_pytorch: dropout of whole channels before the last convolution, and enlargement with
    `align_corners`, each level to the exact size of the next finer one; of an encoder of fewer levels, the four
    deepest, the picture itself being the finest of three. The decoder starts from He's uniform
    initialisation, the head from Glorot's.

    Outputs: "logits".
    """

    encoder: nn.Module
    num_classes: int
    pyramid_features: int = 256
    features: int = 128  # of the merged map
    dropout: float = 0.2  # of whole channels
    method: str = "nearest"  # of the enlargement on the way down the pyramid: "nearest" or "bilinear"
    policy: str = "add"  # of merging the levels: "add", or "cat" to put them side by side
    dtype: Any = jnp.float32

    default_encoder = "resnet50"
    default_output_stride = 32

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        levels = {"c0": image.astype(self.dtype), **self.encoder(image, train=train)}
        options = (self.pyramid_features, self.features, self.method, self.policy, self.dtype)
        decoder = FPNDecoder(*options, name="decoder")
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2))(decoder(levels, train=train), deterministic=not train)
        return {"logits": Head(self.num_classes, dtype=self.dtype, name="head")(x, image.shape[1:3])}


VARIANTS = {"fpn": FPN}
