"""UPerNet: a feature pyramid whose top has seen the whole image, all of its levels fused."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.layer_norm import LayerNorm
from jaxseg.blocks.ppm import ppm
from jaxseg.blocks.pyramid import top_down
from jaxseg.blocks.types import Function
from jaxseg.checks import check_distinct
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import Architecture, check_depth
from jaxseg.ops.resize import resize_like


def fuse_pyramid(
    levels: Sequence[Feature],
    context: Function,
    laterals: Sequence[Function],
    smooth: Sequence[Function],
    fuse: Function,
) -> Feature:
    """Hands what `context` sees in the coarsest level down to the finer ones, and fuses all at the finest one's size.

    Levels come coarse to fine; each but the first has a lateral layer, and another that smooths what was added.
    """
    top, *rest = top_down(levels, [context, *laterals], "bilinear")
    views = [top] + [layer(x) for x, layer in zip(rest, smooth, strict=True)]
    return fuse(jnp.concatenate([resize_like(x, views[-1]) for x in reversed(views)], axis=-1))


class UPerNetDecoder(nn.Module):
    """Unified perceptual parsing network (Xiao et al., 2018, arXiv:1807.10221, fig. 4), its object branch.

    As in segmentation_models_pytorch, and unlike the paper: every level of the encoder first goes through a layer
    normalization, which encoders without one after their stages need (Swin, ConvNeXt); 256 channels, the paper's 512;
    no convolution between the fusion and the scores, which are enlarged with `align_corners`. All other enlargements
    keep the half-pixel convention. The decoder starts from He's uniform initialization, the head from Glorot's.

    Outputs: "logits".
    """

    features: int = 256
    bins: Sequence[int] = (1, 2, 3, 6)  # along each side of the deepest level
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        check_depth(levels, 2, "A UPerNet")
        check_distinct("bins", self.bins)
        names = levels.names(finest=2)

        def layer(kernel_size: int, name: str) -> Function:
            made = ConvNormAct(self.features, kernel_size, dtype=self.dtype, kernel_init=he_uniform, name=name)
            return partial(made, train=train)

        def normalized(name: str) -> Feature:
            return LayerNorm(epsilon=1e-6, dtype=self.dtype, name=f"norm_{name}")(levels[name], train=train)

        branches = {n: layer(1, f"bin{n}") for n in self.bins}
        context = partial(ppm, bins=branches, project=layer(3, "context"), align_corners=False, x_first=True)
        return fuse_pyramid(
            [normalized(name) for name in names],
            context,
            laterals=[layer(1, f"lateral_{name}") for name in names[1:]],
            smooth=[layer(3, f"smooth_{name}") for name in names[1:]],
            fuse=layer(3, "fuse"),
        )


VARIANTS = {"upernet": Architecture(UPerNetDecoder, default_encoder="resnet50", default_output_stride=32)}
