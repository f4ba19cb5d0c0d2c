"""DDRNet: two branches, one at an eighth of the image's size throughout, that exchange features; made for driving."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.dappm import DAPPM
from jaxseg.blocks.small_unet import NormActConv, StageHead
from jaxseg.blocks.types import Function
from jaxseg.checks import UserError
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.models.segmenter import check_images
from jaxseg.ops.resize import resize_like

Scores = dict[str, Float[Array, "b h w k"]]

BASIC = ((1, 3, 1), (1, 3, 0))  # of a block's convolutions: multiple of its features, kernel size, has its stride
BOTTLENECK = ((1, 1, 0), (1, 3, 1), (2, 1, 0))


def exchange(fine: Feature, deep: Feature, down: Function, compress: Function) -> tuple[Feature, Feature]:
    """Bilateral fusion (Hong et al., fig. 3): adds to each branch what the other one had before.

    Args:
      fine: features.
      deep: features at a coarser stride.
      down: takes fine features to the size and channels of the deep ones.
      compress: takes deep features to the channels of the fine ones; the result is enlarged.

    Returns:
      The new fine and the new deep features.
    """
    return fine + resize_like(compress(deep), fine), deep + down(fine)


def chain(x: Feature, layers: Sequence[Function]) -> Feature:
    """Applies ReLU and a layer, for each of the layers: features wait for their ReLU, so that branches can be added."""
    for layer in layers:
        x = layer(nn.relu(x))
    return x


class ResidualBlock(nn.Module):
    """ResNet's block with the ReLU at its beginning in place of its end."""

    features: int
    convs: Sequence[tuple[int, int, int]] = BASIC
    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        def layer(multiple: int, kernel_size: int, strided: int, name: str) -> Function:
            features, stride = multiple * self.features, self.stride if strided else 1
            made = ConvNormAct(features, kernel_size, stride, activation=None, dtype=self.dtype, name=name)
            return partial(made, train=train)

        y = chain(x, [layer(*conv, name=f"conv{i}") for i, conv in enumerate(self.convs, start=1)])
        x = nn.relu(x)
        if self.stride != 1 or x.shape[-1] != y.shape[-1]:
            x = layer(y.shape[-1] // self.features, 1, 1, name="shortcut")(x)
        return x + y


class DualResNet(nn.Module):
    """The two branches: stages one after another from stride 4 to 64, and beside them stages at stride 8.

    It returns "fine", at stride 8, "deep", at stride 64, and "middle", of the fine branch after the first exchange.
    """

    features: int
    blocks: Sequence[int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> dict[str, Feature]:
        def layer(name: str, multiple: int, kernel_size: int, stride: int, **options: Any) -> Function:
            options = {"activation": None, "dtype": self.dtype, "name": name} | options
            return partial(ConvNormAct(multiple * self.features, kernel_size, stride, **options), train=train)

        def stage(x: Feature, name: str, multiple: int, count: int, stride: int = 1, convs: Any = BASIC) -> Feature:
            for i in range(count):
                options = {"stride": 1 if i else stride, "dtype": self.dtype, "name": f"{name}_block{i}"}
                x = ResidualBlock(multiple * self.features, convs, **options)(x, train=train)
            return x

        x = layer("stem1", 1, 3, 2, use_bias=True, activation=nn.relu)(x)
        x = layer("stem2", 1, 3, 2, use_bias=True)(x)
        first, second, third, fourth = self.blocks
        x = stage(stage(x, "stage1", 1, first), "stage2", 2, second, stride=2)

        fine, deep = stage(x, "fine3", 2, 2), stage(x, "stage3", 4, third, stride=2)
        down = partial(chain, layers=[layer("down3", 4, 3, 2)])
        fine, deep = exchange(fine, deep, down, partial(chain, layers=[layer("compress3", 2, 1, 1)]))
        middle = fine

        fine, deep = stage(fine, "fine4", 2, 2), stage(deep, "stage4", 8, fourth, stride=2)
        down = partial(chain, layers=[layer("down4_conv1", 4, 3, 2), layer("down4_conv2", 8, 3, 2)])
        fine, deep = exchange(fine, deep, down, partial(chain, layers=[layer("compress4", 2, 1, 1)]))

        fine = stage(fine, "fine5", 2, 1, convs=BOTTLENECK)
        deep = stage(deep, "stage5", 8, 1, stride=2, convs=BOTTLENECK)
        return {"fine": fine, "deep": deep, "middle": middle}


class DDRNetHead(nn.Module):
    """A 3x3 convolution and the classes' scores, each after batch normalization and ReLU."""

    num_classes: int
    features: int = 64
    dtype: Any = jnp.float32
    head_dtype: Any = None  # of the scores; None is `dtype`

    @nn.compact
    def __call__(self, x: Feature, size: tuple[int, int], *, train: bool) -> Float[Array, "b h w k"]:
        x = NormActConv(self.features, use_bias=False, dtype=self.dtype, name="conv")(x, train=train)
        return StageHead(self.num_classes, self.dtype, self.head_dtype, name="scores")(x, size, train=train)


class DDRNet(nn.Module):
    """Deep dual-resolution network (Hong et al., 2021, arXiv:2101.06085, fig. 4), for driving in real time.

    One branch stays at an eighth of the image's size. The other one halves its features to stride 64, where a pyramid
    of poolings (DAPPM) looks around, and twice each branch gets what the other has found. The defaults are
    DDRNet-23-slim; `features=64, head_features=128` is DDRNet-23. Without the auxiliary head and with 19 classes they
    have 5,695,987 and 20,148,947 parameters, as the authors' code has.

    All is as in that code, but for the initial values: Glorot's for the scores' convolution, and 0 for the stem's
    biases, which normalization takes out again. (A stage of one block ends with a ReLU there.) There the scores are
    an eighth of the image's size, and here they are enlarged to it. Features are enlarged to the size of those that
    they meet, so that any size works; at multiples of 64 pixels no map is stretched. A batch has at least two images
    in training, as the pyramid normalizes what it sees of the whole image. The auxiliary head is on the fine branch
    after the first exchange (weight it 0.4 in the loss).

    Outputs: "logits"; with `auxiliary` also "auxiliary".
    """

    num_classes: int
    features: int = 32  # of the first stage; deeper ones have 2, 4, 8 and 16 times as many
    context_features: int = 128  # of every view in the pyramid
    head_features: int = 64
    blocks: Sequence[int] = (2, 2, 2, 2)  # of the stages at strides 4, 8, 16 and 32
    auxiliary: bool = True
    dtype: Any = jnp.float32
    in_channels: int | None = None  # of the images, as for `create_model`
    head_dtype: Any = None  # of the scores; None is `dtype`

    default_encoder = None
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD
    stem = ("encoder", "stem1", "conv")
    coarsest_stride = 64

    @nn.compact
    def __call__(self, image: Float[ArrayLike, "b h w c"], *, train: bool) -> Scores:
        image = check_images(self, image, self.in_channels)
        if len(self.blocks) != 4:
            raise UserError(f"blocks has one entry for each of the 4 stages, got {tuple(self.blocks)}.")
        branches = DualResNet(self.features, self.blocks, self.dtype, name="encoder")(image, train=train)
        pyramid = DAPPM(4 * self.features, self.context_features, dtype=self.dtype, name="decoder")
        context, fine = pyramid(branches["deep"], train=train), branches["fine"]
        x, size = fine + resize_like(context, fine), image.shape[1:3]
        head = partial(DDRNetHead, self.num_classes, self.head_features, self.dtype, self.head_dtype)
        outputs = {"logits": head(name="head")(x, size, train=train)}
        if self.auxiliary:
            outputs["auxiliary"] = head(name="auxiliary")(branches["middle"], size, train=train)
        return outputs


VARIANTS = {"ddrnet": DDRNet}
