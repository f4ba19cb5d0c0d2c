"""Dense convolution for CPUs: XLA's own, but for the kernel's gradient of large ones.

XLA's CPU compiler takes that gradient for a convolution with a kernel as large as the image, which it reads again for
every few channels of the input; where that kernel is larger than a processor's cache, it takes two to six times as long
as the convolution itself. Here it is matrix products, a tile of pixels at a time: the tile's pixels, and behind each
other the pixels that every tap meets, which stay in the cache. `jaxseg.ops.conv.conv2d` chooses between the two.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.ops.cpu import grouped
from jaxseg.ops.cpu.window import Window

forward = grouped.forward
input_gradient = grouped.input_gradient

CACHE = 8 * 10**6  # bytes of the result's gradient that XLA's way bears; docs/performance.md has the table
TILE = 2**19  # bytes of a tile's shifted pixels; 2^18 and 2^20 are within a few percent


def is_tiled(x: tuple[int, ...], kernel: tuple[int, ...], window: Window) -> bool:
    """Says whether the gradient of `kernel` is computed tile by tile, given the shape of `x`.

    >>> is_tiled((8, 80, 80, 256), (3, 3, 256, 128), Window(padding=((1, 1), (1, 1))))
    True
    """
    pixels = x[0] * math.prod(window.output_size(x[1:3], kernel[:2]))
    return kernel[:2] != (1, 1) and 4 * pixels * kernel[3] >= CACHE


def kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h2 w2 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of kernel[shape], sums in float32.

    Either of the two factors may be the one that is shifted. It is the one with fewer channels, whose shifted copies
    are smaller; under a stride, it is `x`.
    """
    taps, zero = window.taps(shape[:2]), jnp.zeros((), x.dtype)
    if window.stride == (1, 1) == window.dilation and shape[3] <= shape[2]:
        sides = [(k - 1 - top, k - 1 - bottom, 0) for k, (top, bottom) in zip(shape, window.padding, strict=False)]
        padded = lax.pad(dy, zero, ((0, 0, 0), *sides, (0, 0, 0)))
        product = _product(x, padded, shape[:2], Window())  # i, taps in reverse, o
        product = product.reshape(shape[2], len(taps), shape[3])[:, ::-1].transpose(1, 0, 2)
    else:
        padded = lax.pad(x, zero, ((0, 0, 0), *((*p, 0) for p in window.padding), (0, 0, 0)))
        product = _product(dy, padded, shape[:2], window)  # o, taps, i
        product = product.reshape(shape[3], len(taps), shape[2]).transpose(1, 2, 0)
    return product.reshape(shape).astype(x.dtype)


def _product(
    still: Float[Array, "b h w s"], padded: Float[Array, "b hp wp m"], kernel: tuple[int, int], window: Window
) -> Float[Array, "s n"]:
    """Returns, for every channel of `still`, tap and channel of `padded`, the sum over all pixels of their products."""
    batch, height, width, channels = still.shape
    moved = padded.shape[3]
    parts, rows = _tiles((batch, height, width), 4 * len(window.taps(kernel)) * moved)
    reach = (rows - 1) * window.stride[0] + (kernel[0] - 1) * window.dilation[0] + 1
    # Every n-th image, so that a batch that lies on several devices is not moved between them.
    still, padded = (a.reshape(batch // parts, parts, *a.shape[1:]) for a in (still, padded))

    def add(n: Array, total: Array) -> Array:
        part, row = n // (height // rows), n % (height // rows) * rows
        tile = lax.dynamic_slice(still, (0, part, row, 0, 0), (batch // parts, 1, rows, width, channels))
        size = (batch // parts, 1, reach, padded.shape[3], moved)
        around = lax.dynamic_slice(padded, (0, part, row * window.stride[0], 0, 0), size)[:, 0]
        shifted = [_meet(around, tap, (rows, width), window) for tap in window.taps(kernel)]
        columns = jnp.concatenate(shifted, axis=-1).reshape(-1, len(shifted) * moved)
        left, right = (a.astype(jnp.float32) for a in (tile.reshape(-1, channels), columns))
        return total + lax.dot_general(left, right, (((0,), (0,)), ((), ())))

    start = jnp.zeros((channels, len(window.taps(kernel)) * moved), jnp.float32)
    return lax.fori_loop(0, parts * (height // rows), add, start)


def _meet(x: Array, tap: tuple[int, int], size: tuple[int, int], window: Window) -> Array:
    """Slices the pixels of x[b, h, w, c] that a tap meets, as many as `size` says."""
    start = [i * dilation for i, dilation in zip(tap, window.dilation, strict=True)]
    stop = [at + (n - 1) * s + 1 for at, n, s in zip(start, size, window.stride, strict=True)]
    return lax.slice(x, (0, *start, 0), (x.shape[0], *stop, x.shape[3]), (1, *window.stride, 1))


def _tiles(size: tuple[int, int, int], pixel: int) -> tuple[int, int]:
    """Returns into how many parts a batch[b, h, w] is divided and how many rows of it a tile has, by `pixel` bytes."""
    batch, height, width = size
    fits = [n for n in range(1, batch + 1) if batch % n == 0 and batch // n * width * pixel <= TILE]
    parts = fits[0] if fits else batch
    line = batch // parts * width * pixel
    return parts, max([n for n in range(1, height + 1) if height % n == 0 and n * line <= TILE], default=1)
