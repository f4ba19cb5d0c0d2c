"""DeepLab, the first and the second: a wide field of view by atrous convolution, at one rate and at several."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.aspp import ASPPSum
from jaxseg.blocks.conv import Conv, Feature
from jaxseg.blocks.head import Head
from jaxseg.blocks.initializers import he_uniform
from jaxseg.ops.resize import resize


class DeepLabV1(nn.Module):
    """DeepLab with a large field of view (Chen et al., 2014, arXiv:1412.7062, table 2: DeepLab-LargeFOV).

    VGG-16 dilated to output stride 8, whose first fully connected layer has become a 3x3 convolution of rate 12 with
    1024 channels: with 21 classes 20,505,429 parameters, the paper's 20.5 M. The encoder's poolings that lose their
    stride are its own affair; the scores are enlarged here, in training too, where the paper shrinks the labels. The
    fully connected CRF comes after, as for any other model. `rate` belongs to output stride 8.

    Outputs: "logits".
    """

    encoder: nn.Module
    num_classes: int
    features: int = 1024
    rate: int = 12  # in pixels of the feature map
    dropout: float = 0.5
    dtype: Any = jnp.float32

    default_encoder = "vgg16"
    default_output_stride = 8

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        levels = self.encoder(image, train=train)
        decoder = LargeFOV(self.features, self.rate, self.dropout, dtype=self.dtype, name="decoder")
        x = decoder(levels["c5"], train=train)
        return {"logits": Head(self.num_classes, dtype=self.dtype, name="head")(x, image.shape[1:3])}


class LargeFOV(nn.Module):
    """VGG-16's fully connected layers as convolutions, the first one atrous; ReLU and dropout after each."""

    features: int = 1024
    rate: int = 12
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        for name, kernel_size, rate in (("fc6", 3, self.rate), ("fc7", 1, 1)):
            conv = Conv(
                self.features,
                kernel_size,
                rate=rate,
                use_bias=True,
                dtype=self.dtype,
                kernel_init=he_uniform,
                name=name,
            )
            x = nn.Dropout(self.dropout)(nn.relu(conv(x)), deterministic=not train)
        return x


class DeepLabV2(nn.Module):
    """DeepLabV2 (Chen et al., 2016, arXiv:1606.00915, fig. 7): scores at four rates, added up.

    The defaults are the paper's ResNet-101 (44,048,532 parameters with 21 classes); its VGG-16, DeepLab-ASPP-L, is
    `create_model("deeplabv2", "vgg16", hidden=1024, dropout=0.5)` (37,877,652). The paper also merges the scores of
    three scales by their maximum, which is `image_pyramid` around this model, and refines them by a fully connected
    CRF. `rates` belong to output stride 8.

    Outputs: "logits".
    """

    encoder: nn.Module
    num_classes: int
    rates: Sequence[int] = (6, 12, 18, 24)  # in pixels of the feature map
    hidden: int = 0  # channels of two hidden layers in each branch; 0: none
    dropout: float = 0.0  # after each hidden layer
    dtype: Any = jnp.float32

    default_encoder = "resnet101"
    default_output_stride = 8

    @nn.compact
    def __call__(self, image: Float[Array, "b h w 3"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        levels = self.encoder(image, train=train)
        head = ASPPSum(self.num_classes, self.rates, self.hidden, self.dropout, dtype=self.dtype, name="head")
        scores = head(levels["c5"], train=train).astype(jnp.float32)
        return {"logits": resize(scores, image.shape[1:3], align_corners=True)}


VARIANTS = {"deeplabv1": DeepLabV1, "deeplabv2": DeepLabV2}
