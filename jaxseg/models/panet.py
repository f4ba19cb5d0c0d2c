"""PANet: a top-down feature pyramid followed by a bottom-up one."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.pyramid import bottom_up, laterals, mask_branches, merge, top_down
from jaxseg.blocks.types import Function
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import DROPPING, Architecture


class PANetDecoder(nn.Module):
    """Path aggregation network (Liu et al., 2018, arXiv:1803.01534, section 3.1, fig. 1 a and b) for segmentation.

    A feature pyramid whose finest level climbs back up, so that c2's borders reach the coarsest level in a few
    convolutions instead of through the whole encoder. The paper goes on to detect objects; here the second pyramid is
    merged to a mask as `fpn`'s is (Kirillov et al., 2019, arXiv:1901.02446, fig. 3), with the same dropout and
    enlargement. Beyond `fpn` it has 3,540,480 parameters, six 3x3 convolutions with bias and ReLU.

    Outputs: "logits".
    """

    pyramid_features: int = 256
    features: int = 128  # of the merged map
    method: str = "nearest"  # of the enlargement on the way down the pyramid: "nearest" or "bilinear"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        names = ("c5", "c4", "c3", "c2")
        inward = laterals(names, self.pyramid_features, dtype=self.dtype)
        pyramid = top_down([levels[name] for name in names], inward, self.method)

        def layer(name: str, stride: int) -> Function:
            conv = ConvNormAct(
                self.pyramid_features,
                stride=stride,
                use_bias=True,
                norm=None,
                dtype=self.dtype,
                kernel_init=he_uniform,
                name=name,
            )
            return partial(conv, train=train)

        reduce, fuse = [], []
        for name, coarse, fine in zip(names[2::-1], pyramid[2::-1], pyramid[:0:-1], strict=True):
            halved = coarse.shape[1:3] != fine.shape[1:3]  # not if the encoder dilates instead
            reduce.append(layer(f"reduce_{name}", 2 if halved else 1))
            fuse.append(layer(f"fuse_{name}", 1))
        pyramid = bottom_up(pyramid, reduce, fuse)
        return merge(pyramid, mask_branches(names, self.features, train=train, dtype=self.dtype))


VARIANTS = {
    "panet": Architecture(PANetDecoder, default_encoder="resnet50", default_output_stride=32, segmenter=DROPPING)
}
