"""Convolution: one function, explicit symmetric padding, fast on every platform.

On GPUs and TPUs a convolution is XLA's own, forwards and backwards. On CPUs XLA is slow for three kinds, which take
another way to the same numbers, in `jaxseg.ops.cpu`: depthwise convolutions are sums of shifted products, 1x1
convolutions are matrix products, and the kernel gradient of convolutions in groups is one for every group. The choice
falls where the program is compiled, not where it is traced, so one that is lowered for several platforms gets the right
way on each.
"""

from functools import partial

import jax
from jax import lax
from jaxtyping import Array, Float

from jaxseg.checks import UserError
from jaxseg.ops.cpu import depthwise, grouped, pointwise
from jaxseg.ops.cpu.window import Window

# modules of forward, input_gradient, kernel_gradient
_ON_CPU = {"depthwise": depthwise, "grouped": grouped, "pointwise": pointwise}


def conv2d(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i_per_group o"],
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[tuple[int, int], tuple[int, int]] = 0,
    rate: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Float[Array, "b h2 w2 o"]:
    """Convolves (cross-correlates, as every deep learning library does) `x` with `kernel`.

    Reverse mode differentiates it any number of times, and forward mode over reverse works too. Forward mode alone
    (`jax.jvp`) does not for depthwise, grouped and 1x1 kernels, whose gradients have rules of their own.

    Args:
      x: features, of the kernel's dtype.
      kernel: weights; `i_per_group * groups` must be `i`, and `groups` must divide `o`.
      stride: in pixels of `x`, (height, width) or one number for both.
      padding: rows and columns of zeros, ((top, bottom), (left, right)) or one number for all four sides.
      rate: dilation, the distance in pixels of `x` between neighbouring taps of the kernel.
      groups: parts into which the channels fall, each convolved by itself; `i` for a depthwise convolution.

    >>> import jax.numpy as jnp
    >>> x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    >>> print(conv2d(x, jnp.ones((3, 3, 1, 1)), padding=1, stride=2)[0, :, :, 0])
    [[ 8. 12.]
     [20. 24.]]
    """
    stride, rate = ((v, v) if isinstance(v, int) else tuple(v) for v in (stride, rate))
    if isinstance(padding, int):
        padding = ((padding, padding), (padding, padding))
    window = Window(stride, tuple(map(tuple, padding)), rate)
    _check(x, kernel, window, groups)
    if 1 < groups == x.shape[-1]:
        return _by_platform(x, kernel, "depthwise", window, groups)
    if groups > 1:
        return _by_platform(x, kernel, "grouped", window, groups)
    if kernel.shape[:2] == (1, 1) and window.padding == ((0, 0), (0, 0)):
        return _by_platform(x, kernel, "pointwise", window, groups)
    return _native(x, kernel, window, groups)


def _check(x: Array, kernel: Array, window: Window, groups: int) -> None:
    """Raises at trace time when the arguments do not fit together."""
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
            f"A kernel {kernel.shape[:2]} at rate {window.rate} does not fit a picture of {x.shape[1:3]} pixels with"
            f" padding {window.padding}. Use larger images, more padding or a smaller rate."
        )


def _native(x: Array, kernel: Array, window: Window, groups: int) -> Array:
    """XLA's own convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window.stride,
        window.padding,
        rhs_dilation=window.rate,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _choose(x: Array, kernel: Array, strategy: str, window: Window, groups: int) -> Array:
    """Convolves by `strategy` on a CPU, by XLA's convolution elsewhere."""
    return lax.platform_dependent(
        x,
        kernel,
        cpu=partial(_ON_CPU[strategy].forward, window=window),
        default=partial(_native, window=window, groups=groups),
    )


_by_platform = jax.custom_vjp(_choose, nondiff_argnums=(2, 3, 4))


def _forward(x: Array, kernel: Array, strategy: str, window: Window, groups: int):
    return _choose(x, kernel, strategy, window, groups), (x, kernel)


def _backward(strategy: str, window: Window, groups: int, saved: tuple[Array, Array], dy: Array):
    x, kernel = saved

    def native_dx(dy, kernel):
        return jax.linear_transpose(lambda x: _native(x, kernel, window, groups), x)(dy)[0]

    def native_dkernel(x, dy):
        return jax.linear_transpose(lambda kernel: _native(x, kernel, window, groups), kernel)(dy)[0]

    on_cpu = _ON_CPU[strategy]
    dx = lax.platform_dependent(
        dy, kernel, cpu=partial(on_cpu.input_gradient, shape=x.shape, window=window), default=native_dx
    )
    dkernel = lax.platform_dependent(
        x, dy, cpu=partial(on_cpu.kernel_gradient, shape=kernel.shape, window=window), default=native_dkernel
    )
    return dx, dkernel


_by_platform.defvjp(_forward, _backward)
