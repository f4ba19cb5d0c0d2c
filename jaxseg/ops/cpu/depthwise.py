"""Depthwise convolution for CPUs: shifted slices, multiplied and summed.

XLA's CPU compiler has no fast kernel for depthwise convolutions, while it fuses a sum of shifted products into one
vectorized, threaded loop. Each function here equals `lax.conv_general_dilated` with `feature_group_count` = channels
of `x`, or its transpose; sums are float32. `jaxseg.ops.conv.conv2d` chooses between the two.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.ops.cpu.window import Window
from jaxseg.ops.varying import vary_like

ROWS = 4  # of dy that the kernel gradient takes a turn: its sums are read and written once for all of them


def forward(x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw 1 o"], window: Window) -> Array:
    """Convolves every channel of `x` with kernels of its own."""
    size = window.output_size(x.shape[1:3], kernel.shape[:2])
    padded = _widen(_pad(x, *window.padding), kernel.shape[3])
    total = 0.0
    for i, j in window.taps(kernel.shape[:2]):
        tap = _slice(padded, (i * window.dilation[0], j * window.dilation[1]), size, window.stride)
        total = total + _float32(tap) * _float32(kernel[i, j])[None, None]
    return total.astype(x.dtype)


def input_gradient(
    dy: Float[Array, "b h2 w2 o"], kernel: Float[Array, "kh kw 1 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of x[shape].

    Pixels of `x` whose position modulo the stride is equal see the same taps of the kernel; each such phase is a sum
    of shifted products without holes, and the phases are interleaved at the end.
    """
    count = [-(-n // s) for n, s in zip(shape[1:3], window.stride, strict=True)]  # pixels a phase, rounded up
    plans = [_phases(axis, kernel.shape[axis], window) for axis in (0, 1)]
    pads = []
    for axis in (0, 1):
        offsets = [offset for phase in plans[axis] for _, offset in phase]
        last = count[axis] - 1 + max(offsets)
        pads.append((max(0, -min(offsets)), max(0, last - (dy.shape[1 + axis] - 1))))
    padded = _pad(dy, *pads)

    def phase(rows, columns):
        total = jnp.zeros((dy.shape[0], *count, dy.shape[3]), jnp.float32)
        for i, down in rows:
            for j, right in columns:
                tap = _slice(padded, (pads[0][0] + down, pads[1][0] + right), count, (1, 1))
                total = total + _float32(tap) * _float32(kernel[i, j])[None, None]
        return total.astype(dy.dtype)

    if window.stride == (1, 1):
        dx = phase(plans[0][0], plans[1][0])
    else:
        lines = [jnp.stack([phase(rows, columns) for columns in plans[1]], axis=3) for rows in plans[0]]
        height, width = (n * s for n, s in zip(count, window.stride, strict=True))
        dx = jnp.stack(lines, axis=2).reshape(dy.shape[0], height, width, dy.shape[3])
    dx = dx[:, : shape[1], : shape[2]]
    return dx if dx.shape == shape else dx.reshape(*shape, -1).sum(-1)


def kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h2 w2 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of kernel[shape].

    For every tap it is a sum of products over all pixels. A loop over rows adds them up in as many places as a row has
    pixels, so that each turn is one vectorized pass without a reduction; the places are summed at the end. The taps of
    one kernel row share a loop, and the kernel's rows follow one another: it compiles once for all of them.
    """
    batch, height, width, channels = dy.shape
    padded = _widen(_pad(x, *window.padding), channels)
    rows = max(n for n in range(1, ROWS + 1) if height % n == 0)

    def kernel_row(i):
        def add(n, totals):
            for y in range(rows):
                part = _float32(lax.dynamic_slice_in_dim(dy, n * rows + y, 1, axis=1))
                at = (n * rows + y) * window.stride[0] + i * window.dilation[0]
                row = lax.dynamic_slice_in_dim(padded, at, 1, axis=1)
                taps = [_slice(row, (0, j * window.dilation[1]), (1, width), (1, window.stride[1])) for j in columns]
                totals = [total + _float32(tap) * part for total, tap in zip(totals, taps, strict=True)]
            return totals

        columns = range(shape[1])
        start = [vary_like(jnp.zeros((batch, 1, width, channels), jnp.float32), padded, dy) for _ in columns]
        return jnp.stack([total.sum((0, 1, 2)) for total in lax.fori_loop(0, height // rows, add, start)])

    return lax.map(kernel_row, jnp.arange(shape[0])).reshape(shape).astype(x.dtype)


def _phases(axis: int, taps: int, window: Window) -> list[list[tuple[int, int]]]:
    """For every position modulo the stride, the taps that reach it as (tap, offset into dy) along an axis."""
    stride, before, dilation = window.stride[axis], window.padding[axis][0], window.dilation[axis]
    return [
        [(i, (at + before - i * dilation) // stride) for i in range(taps) if (at + before - i * dilation) % stride == 0]
        for at in range(stride)
    ]


def _float32(x: Array) -> Array:
    return x.astype(jnp.float32)


def _pad(x: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)))


def _slice(x: Array, at: tuple[int, int], size: Sequence[int], stride: tuple[int, int]) -> Array:
    """Slices `size` pixels a `stride` apart out of x[b, h, w, c], the first one at `at`."""
    stop = [a + (n - 1) * s + 1 for a, n, s in zip(at, size, stride, strict=True)]
    return lax.slice(x, (0, *at, 0), (x.shape[0], *stop, x.shape[3]), (1, *stride, 1))


def _widen(x: Array, channels: int) -> Array:
    """Repeats every channel until there are `channels`: output o of a depthwise kernel reads input o // multiplier."""
    times = channels // x.shape[-1]
    if times == 1:
        return x
    return jnp.broadcast_to(x[..., None], (*x.shape, times)).reshape(*x.shape[:-1], channels)
