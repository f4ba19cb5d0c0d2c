"""LR-ASPP: MobileNetV3's segmentation head, with channel weights from a global average."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Conv, ConvNormAct, Feature
from jaxseg.blocks.initializers import pytorch_uniform
from jaxseg.blocks.types import Function
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import Architecture, level_of
from jaxseg.ops.pool import global_avg_pool
from jaxseg.ops.resize import resize, resize_like

Scores = Float[Array, "b h w num_classes"]


def lraspp(
    deep: Feature, fine: Feature, project: Function, weigh: Function, predict_deep: Function, predict_fine: Function
) -> Scores:
    """Adds the scores of deep features, weighted by channel and upsampled, and the scores of fine features."""
    weighed = project(deep) * nn.sigmoid(weigh(global_avg_pool(deep)))
    return predict_deep(resize_like(weighed, fine)) + predict_fine(fine)


class LRASPPHead(nn.Module):
    """Lite R-ASPP (Howard et al., 2019, arXiv:1905.02244, fig. 10).

    As in torchvision, and unlike the paper: the average is over the whole image, not over windows of 49x49 pixels at
    strides of 16 and 20, so that any size works; and the weights multiply the deep features before they are enlarged.
    In the paper's configuration, MobileNetV3-Large at output stride 16, the deep features are those of the last 1x1
    convolution (c5) and the fine ones have stride 8 (c3). torchvision's weights take the first such features, the
    encoder's `early_levels`, and the paper halves the last stage's channels. With torchvision's encoder and 21
    classes: 3,221,538 parameters.

    Outputs: "logits".
    """

    num_classes: int
    features: int = 128  # of the deep branch
    fine_level: str = "c3"
    dtype: Any = jnp.float32
    head_dtype: Any = None  # of the scores; None is `dtype`

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Scores:
        conv = partial(Conv, kernel_size=1, kernel_init=pytorch_uniform)
        score = partial(conv, self.num_classes, use_bias=True, dtype=self.head_dtype or self.dtype)
        project = ConvNormAct(self.features, 1, dtype=self.dtype, kernel_init=pytorch_uniform, name="project")
        scores = lraspp(
            levels["c5"],
            level_of(levels, self.fine_level, "set fine_level to one of these"),
            project=partial(project, train=train),
            weigh=conv(self.features, dtype=self.dtype, name="weigh"),
            predict_deep=score(name="deep"),
            predict_fine=score(name="fine"),
        )
        return resize(scores, size).astype(jnp.float32)


VARIANTS = {"lraspp": Architecture(None, LRASPPHead, default_encoder="mobilenet_v3_large", default_output_stride=16)}
