"""A patch classifier, and the fully convolutional network that computes it at every pixel at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxseg.blocks.conv import Conv, Feature
from jaxseg.blocks.initializers import he_normal_in, xavier_uniform
from jaxseg.checks import UserError
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.models.segmenter import check_images
from jaxseg.ops.max_pool import max_pool
from jaxseg.ops.mirror import mirror


def patch_features(
    x: Feature, convs: Sequence[Callable[[Feature, int], Feature]], *, dense: bool
) -> tuple[Feature, int]:
    """Convolutions, each followed by a 2x2 max pooling, on patches or on a whole image.

    On an image the pooling keeps every position instead of every second one, and later layers have twice the dilation:
    "à trous" (Holschneider et al., 1990). The result at a pixel is then that of the patch around it.

    Args:
      x: patches, or, with `dense`, an image with a margin of half a patch.
      convs: take features and their dilation; unpadded.
      dense: whether to keep every position.

    Returns:
      The features, and the distance in positions between those that belong to one patch.
    """
    dilation = 1
    for conv in convs:
        x = conv(x, dilation)
        if dense:
            _, h, w, _ = x.shape
            x = max_pool(x, 2, stride=1, dilation=dilation)[:, : h - dilation, : w - dilation]
            dilation *= 2
        else:
            x = max_pool(x, 2)
    return x, dilation


class PatchEncoder(nn.Module):
    """Unpadded convolutions with ReLU and 2x2 max pooling; see `patch_features`."""

    widths: Sequence[int] = (48, 48, 48, 48)
    kernel_sizes: Sequence[int] = (4, 5, 4, 4)
    dense: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature) -> tuple[Feature, int]:
        def conv(number: int, width: int, size: int) -> Callable[[Feature, int], Feature]:
            def apply(x: Feature, dilation: int) -> Feature:
                layer = Conv(
                    width,
                    size,
                    dilation=dilation,
                    padding=0,
                    use_bias=True,
                    dtype=self.dtype,
                    kernel_init=he_normal_in,
                    name=f"conv{number}",
                )
                return nn.relu(layer(x))

            return apply

        if len(self.widths) != len(self.kernel_sizes):
            raise UserError(f"widths {self.widths} and kernel_sizes {self.kernel_sizes} have one entry a layer each.")
        layers = enumerate(zip(self.widths, self.kernel_sizes, strict=True), start=1)
        return patch_features(x, [conv(number, *layer) for number, layer in layers], dense=self.dense)


class PatchHead(nn.Module):
    """A fully connected layer on the last map's positions, and one to the scores, both as convolutions."""

    num_classes: int
    positions: int = 3
    hidden: int = 200
    dilation: int = 1  # between the positions of one patch
    dtype: Any = jnp.float32
    head_dtype: Any = None  # of the scores; None is `dtype`

    @nn.compact
    def __call__(self, x: Feature) -> Float[Array, "b h w num_classes"]:
        options = {"padding": 0, "use_bias": True}
        full = Conv(
            self.hidden,
            self.positions,
            dilation=self.dilation,
            dtype=self.dtype,
            kernel_init=he_normal_in,
            name="hidden",
            **options,
        )
        dtype = self.head_dtype or self.dtype
        score = Conv(self.num_classes, 1, dtype=dtype, kernel_init=xavier_uniform, name="scores", **options)
        return score(nn.relu(full(x))).astype(jnp.float32)


class PatchCNN(nn.Module):
    """Patch classifier (Cireşan et al., 2012, "Deep neural networks segment neuronal membranes", table 1).

    Every pixel gets the class that a convolutional network sees in the patch around it, here of 95 x 95 pixels; the
    image is mirrored at its border. The model labels all pixels at once: fully connected layers as convolutions,
    strides as dilation, which gives the same logits (Giusti et al., 2013, arXiv:1302.1700; Li et al., 2014,
    arXiv:1412.4526). `classify` is the network on patches, `slide` slides it over an image as the paper did. ReLU
    instead of the paper's tanh.

    Outputs: "logits".
    """

    num_classes: int
    widths: Sequence[int] = (48, 48, 48, 48)
    kernel_sizes: Sequence[int] = (4, 5, 4, 4)
    positions: int = 3  # of the last map, along each axis, that the fully connected layer sees
    hidden: int = 200
    dtype: Any = jnp.float32
    in_channels: int | None = None  # of the images, as for `create_model`
    head_dtype: Any = None  # of the scores; None is `dtype`

    default_encoder = None
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD
    stem = ("encoder", "conv1")

    @property
    def patch(self) -> int:
        """The size of a patch in pixels; its pixel number patch // 2 is the one that is classified.

        >>> PatchCNN(num_classes=2).patch
        95
        """
        size = self.positions
        for kernel in reversed(self.kernel_sizes):
            size = 2 * size + kernel - 1
        return size

    @nn.compact
    def __call__(self, image: Float[ArrayLike, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        del train  # nothing here behaves differently
        image = check_images(self, image, self.in_channels)
        x = extend(image, self.patch)
        x, dilation = PatchEncoder(self.widths, self.kernel_sizes, dense=True, dtype=self.dtype, name="encoder")(x)
        dtypes = (self.dtype, self.head_dtype)
        head = PatchHead(self.num_classes, self.positions, self.hidden, dilation, *dtypes, name="head")
        return {"logits": head(x)}


def extend(image: Float[Array, "b h w c"], patch: int) -> Float[Array, "b h2 w2 c"]:
    """Mirrors an image at its border, so that every pixel of it has a whole patch around it."""
    before, (height, width) = patch // 2, image.shape[1:3]
    return mirror(image, (before, before), (height + patch - 1, width + patch - 1))


def classify(
    model: PatchCNN, variables: Mapping[str, Any], patches: Float[Array, "n p p c"]
) -> Float[Array, "n num_classes"]:
    """Scores patches, each by itself, with real strides and fully connected layers.

    Args:
      model: makes the network.
      variables: those of the model.
      patches: of `model.patch` x `model.patch` pixels.
    """
    if patches.shape[1:3] != (model.patch, model.patch):
        raise UserError(
            f"The network looks at {model.patch} x {model.patch} pixels, got patches of {patches.shape[1:3]}."
        )
    params = variables["params"]
    encoder = PatchEncoder(model.widths, model.kernel_sizes, dtype=model.dtype)
    dtypes = {"dtype": model.dtype, "head_dtype": model.head_dtype}
    head = PatchHead(model.num_classes, model.positions, model.hidden, **dtypes)
    x, _ = encoder.apply({"params": params["encoder"]}, patches)
    return head.apply({"params": params["head"]}, x)[:, 0, 0]


def slide(
    model: PatchCNN, variables: Mapping[str, Any], image: Float[Array, "b h w c"]
) -> Float[Array, "b h w num_classes"]:
    """Classifies the patch around every pixel, row by row: what the model does at once, and the slow way to it."""
    batch, height, width, _ = image.shape
    patch = model.patch
    extended = extend(image, patch)

    def row(top: Int[Array, ""]) -> Float[Array, "b w num_classes"]:
        strip = jax.lax.dynamic_slice_in_dim(extended, top, patch, axis=1)
        patches = jnp.stack([strip[:, :, left : left + patch] for left in range(width)], axis=1)
        logits = classify(model, variables, patches.reshape(batch * width, patch, patch, -1))
        return logits.reshape(batch, width, -1)

    return jax.lax.map(row, jnp.arange(height)).transpose(1, 0, 2, 3)


VARIANTS = {"patch_cnn": PatchCNN}
