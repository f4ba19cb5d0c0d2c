"""Heads: from features to one score per pixel and class."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Conv, ConvNormAct, Feature
from jaxseg.blocks.initializers import he_uniform, xavier_uniform
from jaxseg.ops.resize import resize


class Head(nn.Module):
    """One convolution to the classes' scores, which are resized bilinearly to the image's own size.

    Both are computed in `dtype`, or in `head_dtype` if it is not None: at full size the scores are the largest arrays
    of many models. The result is float32. `align_corners`, as in segmentation_models_pytorch, keeps the centers of the
    corner pixels in place.
    """

    num_classes: int
    kernel_size: int = 1
    align_corners: bool = True
    dtype: Any = jnp.float32
    kernel_init: Any = xavier_uniform
    head_dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Feature, size: tuple[int, int], *, train: bool = False
    ) -> Float[Array, "b h2 w2 num_classes"]:
        del train  # other heads need it
        conv = Conv(
            self.num_classes,
            self.kernel_size,
            use_bias=True,
            dtype=self.head_dtype or self.dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )
        return resize(conv(x), size, align_corners=self.align_corners).astype(jnp.float32)


class FCNHead(nn.Module):
    """A 3x3 convolution to a quarter of the channels, dropout and the classes' scores.

    The auxiliary classifier of PSPNet (Zhao et al., 2016, arXiv:1612.01105, section 4), which torchvision also puts
    on DeepLabV3.
    """

    num_classes: int
    dropout: float = 0.1  # of whole channels
    align_corners: bool = True
    dtype: Any = jnp.float32
    kernel_init: Any = he_uniform
    head_dtype: Any = None  # of the scores; None is `dtype`

    @nn.compact
    def __call__(self, x: Feature, size: tuple[int, int], *, train: bool) -> Float[Array, "b h2 w2 num_classes"]:
        conv = ConvNormAct(x.shape[-1] // 4, dtype=self.dtype, kernel_init=self.kernel_init, name="conv")
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2))(conv(x, train=train), deterministic=not train)
        dtypes = {"dtype": self.dtype, "head_dtype": self.head_dtype}
        return Head(self.num_classes, align_corners=self.align_corners, **dtypes, name="head")(x, size)
