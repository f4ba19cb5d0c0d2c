"""Dense convolutions for CPUs: XLA's own, but for the kernel's gradient where one of two other ways is faster.

Small deep images go as one matrix product (`jaxseg.ops.cpu.columns`), large ones tile by tile (`jaxseg.ops.cpu.tiles`).
`jaxseg.ops.conv.conv2d` asks `is_xla` whether to come here.
"""

from types import ModuleType
from typing import Any

import jax
from jaxtyping import Array, Float

from jaxseg.ops.cpu import columns, grouped, tiles
from jaxseg.ops.cpu.window import Window
from jaxseg.ops.varying import operand

forward = grouped.forward
input_gradient = grouped.input_gradient


def is_xla(x: tuple[Any, ...], kernel: tuple[int, ...], window: Window) -> bool:
    """Says whether XLA's own is the way for the kernel's gradient, too, given the shapes of features and kernel.

    >>> is_xla((4, 64, 64, 64), (3, 3, 64, 64), Window(padding=((1, 1), (1, 1))))
    True
    >>> is_xla((8, 80, 80, 256), (3, 3, 256, 128), Window(padding=((1, 1), (1, 1))))
    False
    """
    return _way(x, (x[0], *window.output_size(x[1:3], kernel[:2]), kernel[3]), kernel, window) is None


def kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h2 w2 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of kernel[shape]."""
    way = _way(x.shape, dy.shape, shape, window)
    if way is not None:
        return way.kernel_gradient(x, dy, shape, window)
    kernel = operand(shape, x, dy)
    return jax.linear_transpose(lambda kernel: forward(x, kernel, window), kernel)(dy)[0]


def _way(x: tuple[Any, ...], dy: tuple[Any, ...], kernel: tuple[int, ...], window: Window) -> ModuleType | None:
    """Returns the module that computes the kernel's gradient, or None for XLA."""
    if columns.is_faster(x, dy, kernel, window):
        return columns
    return tiles if tiles.is_faster(dy, kernel, window) else None
