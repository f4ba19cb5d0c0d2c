"""DeepLab V1 and V2: a large field of view by atrous convolution, with one dilation or several."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.aspp import ASPPSum
from jaxseg.blocks.conv import Feature
from jaxseg.blocks.fully_connected import fully_connected
from jaxseg.blocks.initializers import he_uniform
from jaxseg.encoders.levels import Levels
from jaxseg.models.parts import Architecture
from jaxseg.ops.resize import resize


class LargeFOV(nn.Module):
    """DeepLab with a large field of view (Chen et al., 2014, arXiv:1412.7062, table 2: DeepLab-LargeFOV).

    VGG-16 dilated to output stride 8, whose first fully connected layer has become a 3x3 convolution of rate 12 with
    1024 channels: with 21 classes 20,505,429 parameters, the paper's 20.5 M. The encoder's poolings that lose their
    stride are its own affair; the scores are enlarged here, in training too, where the paper shrinks the labels. The
    fully connected CRF comes after, as for any other model. `rate` belongs to output stride 8.

    Outputs: "logits".
    """

    features: int = 1024
    rate: int = 12  # in pixels of the feature map
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Feature:
        options = {"dilation": self.rate, "dtype": self.dtype, "kernel_init": he_uniform}
        x = levels["c5"]
        for layer in fully_connected(self.features, 3, self.dropout, train=train, **options):
            x = layer(x)
        return x


class DeepLabV2Head(ASPPSum):
    """DeepLabV2 (Chen et al., 2016, arXiv:1606.00915, fig. 7): scores at four rates, added up.

    The defaults are the paper's ResNet-101 (44,048,532 parameters with 21 classes); its VGG-16, DeepLab-ASPP-L, is
    `create_model("deeplabv2", "vgg16", hidden=1024, dropout=0.5)` (37,877,652). The paper also merges the scores of
    three scales by their maximum, which is `image_pyramid` around this model, and refines them by a fully connected
    CRF. `rates` belong to output stride 8.

    Outputs: "logits".
    """

    def __call__(self, levels: Levels, size: tuple[int, int], *, train: bool) -> Float[Array, "b h w num_classes"]:
        scores = super().__call__(levels["c5"], train=train)
        return resize(scores, size, align_corners=True).astype(jnp.float32)


VARIANTS = {
    "deeplabv1": Architecture(LargeFOV, default_encoder="vgg16", default_output_stride=8),
    "deeplabv2": Architecture(None, DeepLabV2Head, default_encoder="resnet101", default_output_stride=8),
}
