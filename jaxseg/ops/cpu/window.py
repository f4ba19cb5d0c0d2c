"""The window of a convolution: stride, padding and dilation, each (height, width)."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


class Window(NamedTuple):
    """Stride, padding and dilation of a convolution or a pooling."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)

    def output_size(self, size: tuple[int, int], kernel: tuple[int, int]) -> tuple[int, int]:
        """Returns how many positions a kernel of `kernel` taps has on an image of `size` pixels.

        >>> Window(stride=(2, 2), padding=((1, 1), (1, 1))).output_size((7, 8), (3, 3))
        (4, 4)
        """
        height, width = (
            (n + sum(p) - (k - 1) * r - 1) // s + 1
            for n, k, s, p, r in zip(size, kernel, self.stride, self.padding, self.dilation, strict=True)
        )
        return height, width

    def taps(self, kernel: tuple[int, int]) -> list[tuple[int, int]]:
        """Returns the kernel's (row, column) indices, row by row."""
        return [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]

    def shifted(
        self, x: Float[Array, "b h w c"], size: tuple[int, int], kernel: tuple[int, int]
    ) -> list[Float[Array, "b h2 w2 c"]]:
        """Returns, for each tap of the kernel, the pixels of `x` that it meets, `size` of them."""
        padded = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*p, 0) for p in self.padding), (0, 0, 0)))
        slices = []
        for tap in self.taps(kernel):
            start = [i * dilation for i, dilation in zip(tap, self.dilation, strict=True)]
            stop = [at + (n - 1) * s + 1 for at, n, s in zip(start, size, self.stride, strict=True)]
            slices.append(lax.slice(padded, (0, *start, 0), (x.shape[0], *stop, x.shape[3]), (1, *self.stride, 1)))
        return slices

    def transposed(self, kernel: tuple[int, int]) -> "Window":
        """Returns the window from the result's gradient to the features', with the kernel turned by 180 degrees.

        There is one only without a stride.

        >>> Window(padding=((0, 2), (1, 1))).transposed((3, 3)).padding
        ((2, 0), (1, 1))
        """
        top, left = (
            tuple((k - 1) * r - n for n in p) for k, p, r in zip(kernel, self.padding, self.dilation, strict=True)
        )
        return Window(padding=(top, left), dilation=self.dilation)
