"""FPN: a feature pyramid on an encoder, and scores computed from all of its levels."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import Feature
from jaxseg.blocks.pyramid import add, laterals, mask_branches, merge, top_down
from jaxseg.checks import lookup
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import DROPPING, Architecture, check_depth


class FPNDecoder(nn.Module):
    """Feature pyramid network (Lin et al., 2016, arXiv:1612.03144) with the mask branch of Panoptic FPN.

    The mask branch is Kirillov et al., 2019, arXiv:1901.02446, fig. 3.
    As in segmentation_models_pytorch: dropout of whole channels before the last convolution, and enlargement with
    `align_corners`, each level to the exact size of the next finer one; of an encoder of fewer levels, the four
    deepest, the image itself being the finest of three. The decoder starts from He's uniform
    initialization, the head from Glorot's.

    Outputs: "logits".
    """

    pyramid_features: int = 256
    features: int = 128  # of the merged map
    method: str = "nearest"  # of the enlargement on the way down the pyramid: "nearest" or "bilinear"
    policy: str = "add"  # of merging the levels: "add", or "cat" to put them side by side
    dtype: Any = jnp.float32

    least_levels = 4

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        check_depth(levels, 3, "An FPN")
        names = [f"c{i}" for i in range(levels.depth, levels.depth - 4, -1)]
        inward = laterals(names, self.pyramid_features, dtype=self.dtype)
        pyramid = top_down([levels[name] for name in names], inward, self.method)
        join = lookup({"add": add, "cat": partial(jnp.concatenate, axis=-1)}, self.policy, "policy of merging")
        return merge(pyramid, mask_branches(names, self.features, train=train, dtype=self.dtype), join)


VARIANTS = {"fpn": Architecture(FPNDecoder, default_encoder="resnet50", default_output_stride=32, segmenter=DROPPING)}
