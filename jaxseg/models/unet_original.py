"""U-Net as it was published: valid convolutions, cropped skips, and images mirrored at their border."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.blocks.conv import Conv, Feature
from jaxseg.blocks.initializers import he_normal_in
from jaxseg.blocks.types import Function
from jaxseg.blocks.upsample import ConvTranspose
from jaxseg.checks import UserError
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.models.segmenter import check_images
from jaxseg.ops.max_pool import max_pool
from jaxseg.ops.mirror import mirror


class Tile(NamedTuple):
    """Sizes along one axis, in pixels: of what the network looks at, and of what it labels, in its middle."""

    seen: int
    labeled: int


def tile(size: int, depth: int) -> Tile:
    """Returns the smallest tile that a U-Net with `depth` poolings can label at least `size` pixels of.

    Every pooled map has an even size, as the paper asks (section 2).

    >>> tile(388, depth=4), tile(1, depth=4)
    (Tile(seen=572, labeled=388), Tile(seen=188, labeled=4))
    """

    def labeled(bottom: int) -> int:  # what a map of `bottom` + 4 pixels at the deepest level comes to
        for _ in range(depth):
            bottom = 2 * bottom - 4
        return bottom

    bottom = next(n for n in range(1, size + 5) if labeled(n) >= size)
    seen = bottom + 4
    for _ in range(depth):
        seen = 2 * seen + 4
    return Tile(seen, labeled(bottom))


def crop(x: Feature, size: tuple[int, int]) -> Feature:
    """Cuts `size` out of the middle.

    >>> crop(jnp.ones((1, 64, 64, 1)), (56, 56)).shape
    (1, 56, 56, 1)
    """
    (top, left), (height, width) = ((n - m) // 2 for n, m in zip(x.shape[1:3], size, strict=True)), size
    return x[:, top : top + height, left : left + width]


def unet_wiring(
    x: Feature, down: Sequence[Function], bottom: Function, up: Sequence[Function], join: Sequence[Function]
) -> Feature:
    """Fig. 1: down, keeping what is seen at every step; up again, with what was seen beside it.

    `up` and `join` are listed from the deepest step to the finest.
    """
    seen = []
    for block in down:
        x = block(x)
        seen.append(x)
        x = max_pool(x, 2)
    x = bottom(x)
    for enlarge, block, skip in zip(up, join, reversed(seen), strict=True):
        x = enlarge(x)
        x = block(jnp.concatenate([crop(skip, x.shape[1:3]), x], axis=-1))
    return x


class ValidConvs(nn.Module):
    """Two unpadded 3x3 convolutions with ReLU, and dropout: 4 pixels less."""

    features: int
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        for name in ("conv1", "conv2"):
            layer = partial(Conv, padding=0, use_bias=True, dtype=self.dtype, kernel_init=he_normal_in)
            x = nn.relu(layer(self.features, name=name)(x))
        return nn.Dropout(self.dropout)(x, deterministic=not train)


class UNetOriginal(nn.Module):
    """U-Net (Ronneberger, Fischer & Brox, 2015, arXiv:1505.04597, fig. 1): 31.03 M parameters with two classes.

    Convolutions are unpadded, skips are cropped, 2x2 transposed convolutions halve the channels; no batch
    normalization, dropout on the two deepest levels of the way down, He's normal initialization (section 3). A tile of
    572 x 572 pixels gives 388 x 388 labels. An image of any size is mirrored at its border (fig. 2), so that its
    logits come out at its own size. It has three channels, the figure's one.

    Outputs: "logits".
    """

    num_classes: int
    widths: Sequence[int] = (64, 128, 256, 512, 1024)
    dropout: float = 0.5
    dtype: Any = jnp.float32
    in_channels: int | None = None  # of the images, as for `create_model`
    head_dtype: Any = None  # of the scores; None is `dtype`

    default_encoder = None
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD
    stem = ("decoder", "down1", "conv1")

    @nn.compact
    def __call__(self, image: Float[ArrayLike, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        image = check_images(self, image, self.in_channels)
        size = image.shape[1:3]
        tiles = [tile(n, len(self.widths) - 1) for n in size]
        margins = tuple((t.seen - t.labeled) // 2 for t in tiles)
        x = mirror(image, margins, tuple(t.seen for t in tiles))
        x = UDecoder(self.widths, self.dropout, self.dtype, name="decoder")(x, train=train)
        x = x[:, : size[0], : size[1]]
        dtype = self.head_dtype or self.dtype
        head = Conv(self.num_classes, 1, use_bias=True, dtype=dtype, kernel_init=he_normal_in, name="head")
        return {"logits": head(x).astype(jnp.float32)}


class UDecoder(nn.Module):
    """The U of fig. 1 without its last layer: from a tile to the features of its middle."""

    widths: Sequence[int] = (64, 128, 256, 512, 1024)
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        depth = len(self.widths) - 1
        if depth < 1:
            raise UserError(f"A U-Net has at least two widths, got {tuple(self.widths)}.")

        def convs(name: str, level: int) -> Function:
            dropped = self.dropout if name == "down" and level >= depth - 1 else 0.0
            block = ValidConvs(self.widths[level], dropped, self.dtype, name=f"{name}{level + 1}")
            return partial(block, train=train)

        def enlarge(level: int) -> Function:
            features, name = self.widths[level], f"enlarge{level + 1}"
            return ConvTranspose(features, use_bias=True, dtype=self.dtype, kernel_init=he_normal_in, name=name)

        climb = range(depth - 1, -1, -1)
        return unet_wiring(
            x.astype(self.dtype),
            down=[convs("down", level) for level in range(depth)],
            bottom=convs("down", depth),
            up=[enlarge(level) for level in climb],
            join=[convs("up", level) for level in climb],
        )


VARIANTS = {"unet_original": UNetOriginal}
