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
    """Adds to every level what the coarser ones know (Lin et al., 2016, arXiv:1612.03144, fig. 3).

    Coarse to fine, as `levels` are.
    """
    pyramid = [laterals[0](levels[0])]
    for level, lateral in zip(levels[1:], laterals[1:], strict=True):
        pyramid.append(resize_like(pyramid[-1], level, method) + lateral(level))
    return pyramid


def bottom_up(pyramid: Sequence[Feature], reduce: Sequence[Function], fuse: Sequence[Function]) -> list[Feature]:
    """Adds to every level what the finer ones see (Liu et al., 2018, arXiv:1803.01534, fig. 2).

    Coarse to fine, as `pyramid` is. The finest level stays; for each coarser one, from fine to coarse, `reduce` brings
    what was last made to its size, and `fuse` takes the sum of the two.
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
    """Brings every level to the finest one's size, a convolution and an enlargement a step, and joins them.

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
    """Makes, within a module, what `top_down` needs: a 1x1 convolution with bias for each of the levels `names`."""
    conv = partial(Conv, features, 1, use_bias=True, dtype=dtype, kernel_init=he_uniform)
    return [conv(name=f"lateral_{name}") for name in names]


def mask_branches(
    names: Sequence[str], features: int, *, train: bool, dtype: Any = jnp.float32
) -> list[list[Function]]:
    """Makes, within a module, what `merge` needs: 3x3 convolutions with group normalization and ReLU.

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
