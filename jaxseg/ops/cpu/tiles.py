"""The kernel's gradient of large dense convolutions, for CPUs: matrix products, a tile of pixels at a time.

XLA's CPU compiler takes that gradient for a convolution with a kernel as large as the image, which it reads again for
every few channels of the input; where that kernel is larger than a processor's cache, it takes two to six times as long
as the convolution itself. Here each product is of a tile's pixels and, behind each other, the pixels that every tap
meets, which stay in the cache. `jaxseg.ops.cpu.dense` chooses between the two.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.ops.cpu.window import Window
from jaxseg.ops.varying import vary_like

# All three from the table in docs/performance.md.
CACHE = 10**7  # bytes of the result's gradient that XLA's way bears
VECTOR = 16  # outputs; XLA's way is slow where they are no multiple of it
PIXELS = 2**14  # of the result, so that it matters
TILE = 2**20  # bytes of a tile's shifted pixels; 2^19 is as fast


def is_faster(dy: tuple[Any, ...], kernel: tuple[int, ...], window: Window) -> bool:
    """Says whether tiles are faster than XLA for the gradient of `kernel`, given the shape of the result.

    >>> is_faster((8, 80, 80, 128), (3, 3, 256, 128), Window(padding=((1, 1), (1, 1))))
    True
    """
    pixels = math.prod(dy[:3])
    if not isinstance(pixels, int):  # a batch of any size (`jax.export`), which nobody trains
        return False
    slow = 4 * pixels * kernel[3] >= CACHE or (kernel[3] % VECTOR > 0 and pixels >= PIXELS)
    return slow and 1 < kernel[0] * kernel[1] <= 9 and window.dilation == (1, 1)


def kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h2 w2 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of kernel[shape], sums in float32.

    Either of the two factors may be the one that is shifted. It is the one with fewer channels, whose shifted copies
    are smaller; under a stride, it is `x`.
    """
    taps, zero = window.taps(shape[:2]), jnp.zeros((), x.dtype)
    if window.stride == (1, 1) == window.dilation and shape[3] <= shape[2]:
        sides = [(*p, 0) for p in window.transposed(shape[:2]).padding]
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
    moved, taps = padded.shape[3], kernel[0] * kernel[1]
    parts, rows = _tiles((batch, height, width), 4 * taps * moved)
    images, bands = batch // parts, height // rows
    reach = [(n - 1) * s + 1 for n, s in zip((rows, width), window.stride, strict=True)]
    # Every n-th image, so that a batch that lies on several devices is not moved between them.
    still, padded = (a.reshape(images, parts, *a.shape[1:]) for a in (still, padded))

    def add(n: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        total, columns = sums
        part, row = n // bands, n % bands * rows

        # One after another into the same memory: a concatenation would copy them once more, and compile for longer.
        def shift(tap: Array, columns: Array) -> Array:
            down, right = tap // kernel[1] * window.dilation[0], tap % kernel[1] * window.dilation[1]
            at = (0, part, row * window.stride[0] + down, right, 0)
            met = lax.dynamic_slice(padded, at, (images, 1, *reach, moved))[:, 0]
            met = met[:, :: window.stride[0], :: window.stride[1]].astype(jnp.float32)
            return lax.dynamic_update_slice(columns, met, (0, 0, 0, tap * moved))

        columns = lax.fori_loop(0, taps, shift, columns)
        tile = lax.dynamic_slice(still, (0, part, row, 0, 0), (images, 1, rows, width, channels))
        left, right = tile.reshape(-1, channels).astype(jnp.float32), columns.reshape(-1, taps * moved)
        return total + lax.dot_general(left, right, (((0,), (0,)), ((), ()))), columns

    sums = vary_like(jnp.zeros((channels, taps * moved), jnp.float32), still, padded)
    columns = vary_like(jnp.zeros((images, rows, width, taps * moved), jnp.float32), padded)
    return lax.fori_loop(0, parts * bands, add, (sums, columns))[0]


def _tiles(size: tuple[int, int, int], pixel: int) -> tuple[int, int]:
    """Returns into how many parts a batch[b, h, w] is divided and how many rows of it a tile has, by `pixel` bytes."""
    batch, height, width = size
    fits = [n for n in range(1, batch + 1) if batch % n == 0 and batch // n * width * pixel <= TILE]
    parts = fits[0] if fits else batch
    line = batch // parts * width * pixel
    return parts, max([n for n in range(1, height + 1) if height % n == 0 and n * line <= TILE], default=1)
