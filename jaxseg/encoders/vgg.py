"""VGG 11 to 19 (Simonyan & Zisserman, 2014, arXiv:1409.1556, table 1) without its fully connected layers."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import BatchNorm, ConvNormAct
from jaxseg.encoders.dilation import replace_strides
from jaxseg.encoders.levels import Levels
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.ops.max_pool import max_pool
from jaxseg.variants import Variant

WIDTHS = (64, 128, 256, 512, 512)  # of the five blocks


class VGG(nn.Module):
    """Five blocks of 3x3 convolutions, each halved by a 2x2 max pooling.

    As in segmentation_models_pytorch, c1 to c4 are the last features of block 2 to 5, before they are pooled, and c5 is
    block 5 pooled; block 1, at the image's own size, is no level. So FCN's "pool3" and "pool4" are c2 and c3, pooled.
    Poolings round odd sizes up, as Caffe's do and PyTorch's do not.

    Past `output_stride`, poolings keep the size and what follows is dilated (DeepLab, Chen et al., 2014,
    arXiv:1412.7062, section 3.1); their windows are, too, so that the result is the undilated one, only denser.
    """

    convs: tuple[int, int, int, int, int] = (1, 1, 2, 2, 2)  # of each block
    norm: Any = None  # after each convolution, which has a bias all the same, as torchvision's has
    depth: int = 5  # levels to compute, c1 to c`depth`
    output_stride: int = 32
    dtype: Any = jnp.float32

    output_strides = (1, 2, 4, 8, 16, 32)
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Levels:
        pools = replace_strides((2,) * 5, stem=1, output_stride=self.output_stride, dilate_first=False)
        levels, dilation = {}, 1
        for block, (count, width, pool) in enumerate(zip(self.convs, WIDTHS, pools, strict=True), start=1):
            for i in range(1, count + 1):
                name = "stem" if (block, i) == (1, 1) else f"conv{block}_{i}"
                layer = partial(ConvNormAct, dilation=dilation, use_bias=True, norm=self.norm, dtype=self.dtype)
                x = layer(width, name=name)(x, train=train)
            if block > 1:
                levels[f"c{block - 1}"] = x
            if len(levels) == self.depth:
                break
            x = max_pool(x, 2, stride=pool.stride, dilation=pool.first_dilation)
            dilation = pool.dilation
        else:
            levels["c5"] = x
        return Levels(levels, output_stride=self.output_stride, before_pooling=True)


CONVS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
VARIANTS = {
    **{name: Variant(VGG, convs=convs) for name, convs in CONVS.items()},
    **{f"{name}_bn": Variant(VGG, convs=convs, norm=BatchNorm) for name, convs in CONVS.items()},
}
