"""Feature pyramids: top-down and bottom-up paths between an encoder's levels, and their fusion."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp

from jaxseg.blocks.conv import Conv, ConvNormAct, Feature, GroupNorm
from jaxseg.blocks.initializers import he_uniform
from jaxseg.blocks.types import Function
from jaxseg.ops.resize import resize, resize_like


def top_down(levels: Sequence[Feature], laterals: Sequence[Function], method: str = "nearest") -> list[Feature]:
    """Adds to every level the resized coarser result (Lin et al., 2016, arXiv:1612.03144, fig. 3).

    `levels` and the result are ordered coarse to fine.
    """
    pyramid = [laterals[0](levels[0])]
    for level, lateral in zip(levels[1:], laterals[1:], strict=True):
        pyramid.append(resize_like(pyramid[-1], level, method) + lateral(level))
    return pyramid


def bottom_up(pyramid: Sequence[Feature], reduce: Sequence[Function], fuse: Sequence[Function]) -> list[Feature]:
    """Adds to every level the reduced finer result (Liu et al., 2018, arXiv:1803.01534, fig. 2).

    `pyramid` and the result are ordered coarse to fine. The finest level stays unchanged. From fine to coarse, `reduce`
    brings the last result to the size of the next level, and `fuse` is applied to their sum.
    """
    finished = [pyramid[-1]]
    for level, shrink, smooth in zip(reversed(pyramid[:-1]), reduce, fuse, strict=True):
        finished.append(smooth(shrink(finished[-1]) + level))
    return finished[::-1]


def add(views: Sequence[Feature]) -> Feature:
    """Adds them up."""
    return sum(views[1:], start=views[0])


def merge(
    pyramid: Sequence[Feature],
    branches: Sequence[Sequence[Function]],
    join: Callable[[Sequence[Feature]], Feature] = add,
) -> Feature:
    """Upsamples every level to the finest one's size, with a convolution at each step, and joins all levels.

    Kirillov et al., 2019, arXiv:1901.02446, fig. 3: branch i has one convolution for each level between its own and the
    finest, or one if it is the finest.
    """
    sizes = [level.shape[1:3] for level in pyramid]
    views = []
    for i, (x, branch) in enumerate(zip(pyramid, branches, strict=True)):
        for layer, size in zip(branch, sizes[i + 1 :] or sizes[-1:], strict=True):
            x = resize(layer(x), size, align_corners=True)
        views.append(x)
    return join(views)


def laterals(names: Sequence[str], features: int, *, dtype: Any = jnp.float32) -> list[Function]:
    """Creates, inside a module, the layers for `top_down`: a 1x1 convolution with bias for each level of `names`."""
    conv = partial(Conv, features, 1, use_bias=True, dtype=dtype, kernel_init=he_uniform)
    return [conv(name=f"lateral_{name}") for name in names]


def mask_branches(
    names: Sequence[str], features: int, *, train: bool, dtype: Any = jnp.float32
) -> list[list[Function]]:
    """Creates, inside a module, the layers for `merge`: 3x3 convolutions with group normalization and ReLU.

    Args:
      names: of the levels, coarse to fine.
      features: channels of the merged map.
      train: as in a call of the module.
      dtype: of the computation.
    """

    def branch(name, steps):
        layer = partial(ConvNormAct, features, norm=GroupNorm, dtype=dtype, kernel_init=he_uniform)
        return [partial(layer(name=f"branch_{name}_conv{i}"), train=train) for i in range(1, steps + 1)]

    finest = len(names) - 1
    return [branch(name, max(1, finest - i)) for i, name in enumerate(names)]
