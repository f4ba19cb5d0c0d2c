"""The window of a convolution: stride, padding and dilation, each (height, width)."""

from typing import NamedTuple


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
