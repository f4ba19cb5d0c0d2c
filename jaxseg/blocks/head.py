"""The last layers: from features to the logits of every pixel."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Conv, Feature
from jaxseg.blocks.initializers import xavier_uniform
from jaxseg.ops.resize import resize


class Head(nn.Module):
    """One convolution to a score for each class, resized bilinearly to the picture's own size in float32.

    `align_corners=True` as in the networks this follows (segmentation_models_pytorch's): the scores at the picture's
    corners are those computed at the feature map's corners.
    """

    num_classes: int
    kernel_size: int = 1
    align_corners: bool = True
    dtype: Any = jnp.float32
    kernel_init: Any = xavier_uniform

    @nn.compact
    def __call__(self, x: Feature, size: tuple[int, int]) -> Float[Array, "b h2 w2 num_classes"]:
        conv = Conv(
            self.num_classes,
            self.kernel_size,
            use_bias=True,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )
        return resize(conv(x).astype(jnp.float32), size, align_corners=self.align_corners)
