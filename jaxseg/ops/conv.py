"""Convolution: one function, explicit symmetric padding, fast on every platform.

On GPUs and TPUs a convolution is XLA's own, forwards and backwards, but for the kernel's gradient of atrous ones on
NVIDIA GPUs, see `jaxseg.ops.atrous`. On CPUs XLA is slow for some kinds, which `jaxseg.ops.cpu` computes in other ways:
depthwise convolutions as sums of shifted products, 1x1 convolutions as matrix products, small deep ones as one product,
the kernel gradient of grouped convolutions group by group, and that of large ones tile by tile. The choice is made when
the program is compiled, not when it is traced, so a program lowered for several platforms uses the right one on each.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.checks import UserError
from jaxseg.ops import atrous
from jaxseg.ops.cpu import dense, depthwise, grouped, pointwise
from jaxseg.ops.cpu.window import Window
from jaxseg.ops.platform import by_platform

# modules of forward, input_gradient, kernel_gradient
_ON_CPU = {"dense": dense, "depthwise": depthwise, "grouped": grouped, "pointwise": pointwise}


def conv2d(
    x: Float[ArrayLike, "b h w i"],
    kernel: Float[ArrayLike, "kh kw i_per_group o"],
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[tuple[int, int], tuple[int, int]] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Float[Array, "b h2 w2 o"]:
    """Convolves (cross-correlates, as every deep learning library does) `x` with `kernel`.

    It is differentiable in forward and reverse mode, to any order.

    Args:
      x: features, of the kernel's dtype.
      kernel: weights; `i_per_group * groups` must be `i`, and `groups` must divide `o`.
      stride: in pixels of `x`, (height, width) or one number for both.
      padding: rows and columns of zeros, ((top, bottom), (left, right)) or one number for all four sides.
      dilation: the distance in pixels of `x` between neighboring taps of the kernel.
      groups: number of groups of channels, convolved separately; `i` for a depthwise convolution.

    >>> import jax.numpy as jnp
    >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    >>> print(conv2d(x, jnp.ones((3, 3, 1, 1)), padding=1, stride=2)[0, :, :, 0])
    [[ 8. 12.]
     [20. 24.]]
    """
    stride, dilation = ((v, v) if isinstance(v, int) else tuple(v) for v in (stride, dilation))
    if isinstance(padding, int):
        padding = ((padding, padding), (padding, padding))
    window = Window(stride, tuple(map(tuple, padding)), dilation)
    _check(x, kernel, window, groups)
    if 1 < groups == x.shape[-1]:
        return by_platform(_Convolution("depthwise", window, groups), x, kernel)
    if groups > 1:
        return by_platform(_Convolution("grouped", window, groups), x, kernel)
    if kernel.shape[:2] == (1, 1) and window.padding == ((0, 0), (0, 0)):
        return by_platform(_Convolution("pointwise", window, groups), x, kernel)
    if window.dilation == (1, 1) and dense.is_xla(x.shape, kernel.shape, window):
        return _native(x, kernel, window, groups)
    return by_platform(_Convolution("dense", window, groups), x, kernel)


def _check(x: ArrayLike, kernel: ArrayLike, window: Window, groups: int) -> None:
    """Raises a `UserError` at trace time if the arguments do not fit together."""
    if x.ndim != 4 or kernel.ndim != 4:
        raise UserError(
            f"conv2d expects x[b, h, w, i] and kernel[kh, kw, i/groups, o], got {x.shape} and {kernel.shape}."
        )
    if kernel.shape[2] * groups != x.shape[-1] or kernel.shape[3] % groups:
        raise UserError(
            f"A kernel {kernel.shape} in {groups} groups expects {kernel.shape[2] * groups} channels and makes a"
            f" multiple of {groups}, got x {x.shape}. Mend the kernel's shape or `groups`."
        )
    if min(window.output_size(x.shape[1:3], kernel.shape[:2])) < 1:
        raise UserError(
            f"A kernel {kernel.shape[:2]} with dilation {window.dilation} does not fit an image of {x.shape[1:3]}"
            f" pixels with padding {window.padding}. Use larger images, more padding or a smaller dilation."
        )


def _native(x: ArrayLike, kernel: ArrayLike, window: Window, groups: int) -> Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window.stride,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


class _Convolution(NamedTuple):
    """A convolution that CPUs compute by the module `_ON_CPU[strategy]`; a `jaxseg.ops.platform.Bilinear`."""

    strategy: str
    window: Window
    groups: int

    @property
    def cuda_kernel_gradient(self) -> Callable[..., Array] | None:
        gradient = atrous.KERNEL_GRADIENTS.get(self.strategy)
        return None if gradient is None or self.window.dilation == (1, 1) else partial(gradient, window=self.window)

    def native(self, x: Array, kernel: Array) -> Array:
        return _native(x, kernel, self.window, self.groups)

    def forward(self, x: Array, kernel: Array) -> Array:
        return _ON_CPU[self.strategy].forward(x, kernel, self.window)

    def input_gradient(self, dy: Array, kernel: Array, shape: tuple[int, ...]) -> Array:
        return _ON_CPU[self.strategy].input_gradient(dy, kernel, shape, self.window)

    def kernel_gradient(self, x: Array, dy: Array, shape: tuple[int, ...]) -> Array:
        return _ON_CPU[self.strategy].kernel_gradient(x, dy, shape, self.window)
