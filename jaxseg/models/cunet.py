"""CU-Net: a sequence of U-Nets in which each block also gets the features of the same block in earlier U-Nets."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.blocks.conv import ConvNormAct, Feature
from jaxseg.blocks.initializers import pytorch_uniform
from jaxseg.blocks.small_unet import NormActConv, StageHead
from jaxseg.blocks.types import Function
from jaxseg.checks import UserError
from jaxseg.encoders.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxseg.models.segmenter import check_images
from jaxseg.ops.max_pool import max_pool
from jaxseg.ops.resize import resize_like

DEPTH = 4  # halvings in a U-Net


def couple(x: Feature, memory: list[Feature], find: Function, adapt: Sequence[Function], order: int) -> list[Feature]:
    """One semantic block (Tang et al.): computes new features from `x` and the same block's features in earlier U-Nets.

    Args:
      x: features.
      memory: this block's features in at most `order` earlier U-Nets, oldest first; the new features are appended.
      find: computes the new features.
      adapt: functions that each compute a result from `x`, the memory and the new features.
      order: number of U-Nets to keep in memory.
    """
    known = jnp.concatenate([x, *memory], axis=-1)
    found = find(known)
    memory.append(found)
    del memory[: max(len(memory) - order, 0)]
    known = jnp.concatenate([known, found], axis=-1)
    return [layer(known) for layer in adapt]


def hourglass(x: Feature, down: Sequence[Callable], neck: Function, up: Sequence[Function]) -> Feature:
    """A U-Net of blocks: `down` blocks give what goes on and what is kept; `up` is listed from the deepest on."""
    kept = []
    for block in down:
        x, skip = block(x)
        kept.append(skip)
        x = max_pool(x, 2)
    x = neck(x)
    for block, skip in zip(up, reversed(kept), strict=True):
        x = block(jnp.concatenate([resize_like(x, skip, "nearest"), skip], axis=-1))
    return x


class DenseLayer(nn.Module):
    """A bottleneck of 1x1 and a 3x3 convolution to `growth` new features, as in DenseNet."""

    growth: int
    neck: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        layer = partial(NormActConv, use_bias=False, dtype=self.dtype, kernel_init=pytorch_uniform)
        x = layer(self.neck * self.growth, 1, name="reduce")(x, train=train)
        return layer(self.growth, 3, name="find")(x, train=train)


class CoupledUNets(nn.Module):
    """The coupled U-Nets on features at a quarter of the resolution; returns the features of every one of them."""

    units: int
    order: int
    features: int = 128
    growth: int = 32
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> list[Feature]:
        options = {"use_bias": False, "dtype": self.dtype, "kernel_init": pytorch_uniform}
        adapter = partial(NormActConv, self.features, 1, **options)
        memories = {}

        def block(name: str, unit: int, results: Sequence[str]) -> Callable[[Feature], list[Feature]]:
            prefix = f"unit{unit}_{name}"
            find = DenseLayer(self.growth, dtype=self.dtype, name=f"{prefix}_dense")
            adapt = [adapter(name=f"{prefix}_{result}") for result in results]
            return lambda x: couple(
                x,
                memories.setdefault(name, []),
                find=partial(find, train=train),
                adapt=[partial(layer, train=train) for layer in adapt],
                order=self.order,
            )

        stages, inputs = [], []
        for unit in range(1, self.units + 1):
            if unit > 1:  # what earlier U-Nets were given, beside what the last one gave
                between = adapter(name=f"unit{unit}_input")
                x = between(jnp.concatenate([x, *inputs], axis=-1), train=train)
            inputs.append(x)
            del inputs[: max(len(inputs) - self.order, 0)]
            down = [block(f"down{i}", unit, ("ahead", "skip")) for i in range(1, DEPTH + 1)]
            neck, *up = (block(name, unit, ("ahead",)) for name in ("neck", *(f"up{i}" for i in range(DEPTH, 0, -1))))
            x = hourglass(x, down, lambda x, neck=neck: neck(x)[0], [lambda x, b=b: b(x)[0] for b in up])
            stages.append(x)
        return stages


class CUNet(nn.Module):
    """Coupled U-Nets, CU-Net (Tang et al., 2018, arXiv:1808.06521), wired as in the authors' code.

    A block of a U-Net is a dense layer and two adapters (one without a skip); it sees the new features of the same
    block of `order` earlier U-Nets, all of them if None. `order=0` stacks the U-Nets without coupling. The paper finds
    landmarks from heat maps at a quarter of the resolution; here these are the classes' scores, enlarged bilinearly.
    The scores have a bias, unlike there; the rest has the same parameters: with the defaults, 4 U-Nets, 4.3 M at 19
    classes; with 8, 10.3 M.

    Outputs: "logits", of the last U-Net; "stage1", "stage2", …, of each one before it, for a loss at every stage.
    """

    num_classes: int
    units: int = 4  # U-Nets
    order: int | None = None  # how many earlier U-Nets each is coupled to
    features: int = 128  # between the blocks
    growth: int = 32  # new features of a block
    dtype: Any = jnp.float32
    in_channels: int | None = None  # of the images, as for `create_model`
    head_dtype: Any = None  # of the scores; None is `dtype`

    default_encoder = None
    pixel_mean = IMAGENET_MEAN
    pixel_std = IMAGENET_STD
    stem = ("encoder", "conv")

    @nn.compact
    def __call__(self, image: Float[ArrayLike, "b h w c"], *, train: bool) -> dict[str, Float[Array, "b h w k"]]:
        image = check_images(self, image, self.in_channels)
        order = self.units - 1 if self.order is None else self.order
        if self.units < 1 or not 0 <= order < self.units:
            raise UserError(
                f"{self.units} U-Nets are coupled to 0 to {self.units - 1} earlier ones, got order {order}."
            )
        stem = ConvNormAct(self.features, 7, stride=2, dtype=self.dtype, kernel_init=pytorch_uniform, name="encoder")
        x = max_pool(stem(image, train=train), 2)
        unets = CoupledUNets(self.units, order, self.features, self.growth, self.dtype, name="decoder")
        *earlier, last = unets(x, train=train)
        head, size = partial(StageHead, self.num_classes, self.dtype, self.head_dtype), image.shape[1:3]
        outputs = {"logits": head(name="head")(last, size, train=train)}
        for number, features in enumerate(earlier, start=1):
            outputs[f"stage{number}"] = head(name=f"stage{number}")(features, size, train=train)
        return outputs


VARIANTS = {"cunet": CUNet}
