"""FPN: a pyramid of features with one meaning, from one encoder, and a mask from all of its levels."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Conv, ConvNormAct, Feature, GroupNorm
from jaxseg.blocks.head import Head
from jaxseg.blocks.initializers import he_uniform
from jaxseg.ops.resize import resize, resize_like

Function = Callable[[Feature], Feature]


def top_down(levels: Sequence[Feature], laterals: Sequence[Function], method: str = "nearest") -> list[Feature]:
    """Adds to every level what the coarser ones know (Lin et al., fig. 3). Coarse to fine, as `levels` are."""
    pyramid = [laterals[0](levels[0])]
    for level, lateral in zip(levels[1:], laterals[1:], strict=True):
        pyramid.append(resize_like(pyramid[-1], level, method) + lateral(level))
    return pyramid


def merge(pyramid: Sequence[Feature], branches: Sequence[Sequence[Function]]) -> Feature:
    """Brings every level to the finest one's size, a convolution and an enlargement a step, and adds them up.

    Kirillov et al., fig. 3: branch i has one convolution for each level between its own and the finest, or one if it
    is the finest.
    """
    sizes = [level.shape[1:3] for level in pyramid]
    views = []
    for i, (x, branch) in enumerate(zip(pyramid, branches, strict=True)):
        for layer, size in zip(branch, sizes[i + 1 :] or sizes[-1:], strict=True):
            x = resize(layer(x), size, align_corners=True)
        views.append(x)
    return sum(views[1:], start=views[0])


class FPNDecoder(nn.Module):
    """The feature pyramid and the branches that merge it, on levels c2 to c5."""

    pyramid_features: int = 256
    features: int = 128
    method: str = "nearest"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: dict[str, Feature], *, train: bool) -> Feature:
        names = ("c5", "c4", "c3", "c2")

        def lateral(name):
            conv = partial(Conv, self.pyramid_features, 1, use_bias=True, dtype=self.dtype, kernel_init=he_uniform)
            return conv(name=f"lateral_{name}")

        def branch(steps, name):
            layer = partial(ConvNormAct, self.features, norm=GroupNorm, dtype=self.dtype, kernel_init=he_uniform)
            return [partial(layer(name=f"branch_{name}_conv{i}"), train=train) for i in range(1, max(1, steps) + 1)]

        pyramid = top_down([levels[name] for name in names], [lateral(name) for name in names], self.method)
        return merge(pyramid, [branch(steps, name) for steps, name in zip((3, 2, 1, 0), names, strict=True)])


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
