"""Depthwise convolution for CPUs: shifted slices, multiplied and summed.

XLA's CPU compiler has no fast kernel for depthwise convolutions, while it fuses a sum of shifted products into one
vectorised, threaded loop. Each function here equals `lax.conv_general_dilated` with `feature_group_count` = channels
of `x`, or its transpose; sums are float32. `jaxseg.ops.conv.conv2d` chooses between the two.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxseg.ops.window import Window

CHUNK = 1 << 18  # elements of dy that the kernel gradient takes at a time: their copies, 1 MiB each, stay in the cache


def forward(x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw 1 o"], window: Window) -> Array:
    """Convolves every channel of `x` with kernels of its own."""
    size = window.output_size(x.shape[1:3], kernel.shape[:2])
    padded = _widen(_pad(x, *window.padding), kernel.shape[3])
    total = 0.0
    for i, j in window.taps(kernel.shape[:2]):
        tap = _slice(padded, (i * window.rate[0], j * window.rate[1]), size, window.stride)
        total = total + _float32(tap) * _float32(kernel[i, j, 0])
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
                total = total + _float32(tap) * _float32(kernel[i, j, 0])
        return total.astype(dy.dtype)

    if window.stride == (1, 1):
        dx = phase(plans[0][0], plans[1][0])
    else:
        lines = [jnp.stack([phase(rows, columns) for columns in plans[1]], axis=3) for rows in plans[0]]
        high, wide = (n * s for n, s in zip(count, window.stride, strict=True))
        dx = jnp.stack(lines, axis=2).reshape(dy.shape[0], high, wide, dy.shape[3])
    dx = dx[:, : shape[1], : shape[2]]
    return dx if dx.shape == shape else dx.reshape(*shape, -1).sum(-1)


def kernel_gradient(
    x: Float[Array, "b h w i"], dy: Float[Array, "b h2 w2 o"], shape: tuple[int, ...], window: Window
) -> Array:
    """Returns the gradient of kernel[shape].

    It is a reduction over all pixels for every tap. Some rows at a time, the shifted slices live in the cache; whole
    pictures at a time, they would be kh * kw copies of `x` in fresh memory.
    """
    batch, high, wide, channels = dy.shape
    padded = _widen(_pad(x, *window.padding), channels)
    rows = max(n for n in range(1, high + 1) if high % n == 0 and (n == 1 or n * wide * channels <= CHUNK))
    chunks = high // rows
    reach = (rows - 1) * window.stride[0] + (shape[0] - 1) * window.rate[0] + 1

    def add(n, total):
        start = (n // chunks, n % chunks * rows, 0, 0)
        part = _float32(lax.dynamic_slice(dy, start, (1, rows, wide, channels)))
        start = (n // chunks, n % chunks * rows * window.stride[0], 0, 0)
        seen = lax.dynamic_slice(padded, start, (1, reach, *padded.shape[2:]))
        taps = [
            _slice(seen, (i * window.rate[0], j * window.rate[1]), (rows, wide), window.stride)
            for i, j in window.taps(shape[:2])
        ]
        return total + jnp.stack([(_float32(tap) * part).sum((0, 1, 2)) for tap in taps])

    total = lax.fori_loop(0, batch * chunks, add, jnp.zeros((shape[0] * shape[1], channels), jnp.float32))
    return total.reshape(shape).astype(x.dtype)


def _phases(axis: int, taps: int, window: Window) -> list[list[tuple[int, int]]]:
    """For every position modulo the stride, the taps that reach it as (tap, offset into dy) along an axis."""
    stride, before, rate = window.stride[axis], window.padding[axis][0], window.rate[axis]
    return [
        [(i, (at + before - i * rate) // stride) for i in range(taps) if (at + before - i * rate) % stride == 0]
        for at in range(stride)
    ]


def _float32(x: Array) -> Array:
    return x.astype(jnp.float32)


def _pad(x: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    return lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)))


def _slice(x: Array, at: tuple[int, int], size: tuple[int, int], stride: tuple[int, int]) -> Array:
    """Slices `size` pixels a `stride` apart out of x[b, h, w, c], the first one at `at`."""
    stop = [a + (n - 1) * s + 1 for a, n, s in zip(at, size, stride, strict=True)]
    return lax.slice(x, (0, *at, 0), (x.shape[0], *stop, x.shape[3]), (1, *stride, 1))


def _widen(x: Array, channels: int) -> Array:
    """Repeats every channel until there are `channels`: output o of a depthwise kernel reads input o // multiplier."""
    times = channels // x.shape[-1]
    if times == 1:
        return x
    return jnp.broadcast_to(x[..., None], (*x.shape, times)).reshape(*x.shape[:-1], channels)
