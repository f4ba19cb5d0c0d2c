"""Products of features with a kernel that a platform computes another way than XLA does, and their derivatives.

A convolution, and a transposed one, is linear in its features and linear in its kernel. Such a function y = f(x,
kernel) comes with two others: the gradient of x, g(dy, kernel), and the gradient of the kernel, h(x, dy). Each of the
three is linear in both of its operands, and the derivatives of each are the other two. They are one primitive here,
with JAX's rules for what is linear in two operands, so that forward mode, reverse mode and every mixture of them, any
number of times, meet nothing but these three functions. `jax.custom_vjp` would refuse forward mode.

Which way is taken is decided where a program is compiled, not where it is traced (`jax.lax.platform_dependent`). The
primitive also carries XLA's way as a jaxpr, for what walks through programs.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Primitive
from jax.interpreters import ad, batching, mlir
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxseg.ops.varying import operand, vary_like

Result = Literal["y", "x", "kernel"]
Shape = tuple[int, ...]
Feature = Float[Array, "_b _h _w _c"]
Kernel = Float[Array, "_kh _kw _i _o"]


@runtime_checkable
class Bilinear(Protocol):
    """A function of features and kernel, linear in each, as XLA computes it and as a CPU should.

    It is hashable, and two that are equal compute the same: a named tuple of numbers, for instance. All arrays have
    one dtype. In the comments, dy is the gradient of the result.
    """

    @property
    def cuda_kernel_gradient(self) -> Callable[[Feature, Feature, Shape], Array] | None:
        """`kernel_gradient` for an NVIDIA GPU, or None where XLA's own is as good there."""

    def native(self, x: Feature, kernel: Kernel) -> Array:
        """The function, as XLA has it."""

    def forward(self, x: Feature, kernel: Kernel) -> Array:
        """The same for a CPU."""

    def input_gradient(self, dy: Feature, kernel: Kernel, shape: Shape) -> Array:
        """The gradient of x[shape], for a CPU."""

    def kernel_gradient(self, x: Feature, dy: Feature, shape: Shape) -> Array:
        """The gradient of kernel[shape], for a CPU."""


def by_platform(
    function: Bilinear, x: Float[ArrayLike, "_b _h _w _c"], kernel: Float[ArrayLike, "_kh _kw _i _o"]
) -> Array:
    """Returns what `function` makes of `x` and `kernel`, on every platform in its own way."""
    return _bind(function, "y", jnp.asarray(x), jnp.asarray(kernel))


_bilinear = Primitive("platform_bilinear")


def _bind(function: Bilinear, result: Result, a: Array, b: Array, shape: Shape | None = None) -> Array:
    """Returns y of operands (x, kernel), x[shape] of (dy, kernel) or kernel[shape] of (x, dy)."""
    a, b = vary_like(a, b), vary_like(b, a)  # the transpose of which sums a gradient over the devices of a shard_map
    jaxpr = _trace_native(function, result, jax.typeof(a), jax.typeof(b), shape)
    return _bilinear.bind(a, b, function=function, result=result, shape=shape, jaxpr=jaxpr)


@lru_cache(maxsize=1024)
def _trace_native(
    function: Bilinear, result: Result, a: ShapedArray, b: ShapedArray, shape: Shape | None
) -> ClosedJaxpr:
    return jax.make_jaxpr(partial(_native, function=function, result=result, shape=shape))(a, b)


def _native(a: Array, b: Array, *, function: Bilinear, result: Result, shape: Shape | None) -> Array:
    if result == "y":
        return function.native(a, b)
    if result == "x":
        dy, kernel = a, b
        x = operand(shape, dy, kernel)
        return jax.linear_transpose(lambda x: function.native(x, kernel), x)(dy)[0]
    x, dy = a, b
    kernel = operand(shape, x, dy)
    return jax.linear_transpose(lambda kernel: function.native(x, kernel), kernel)(dy)[0]


def _on_cpu(a: Array, b: Array, *, function: Bilinear, result: Result, shape: Shape | None) -> Array:
    if result == "y":
        return function.forward(a, b)
    return (function.input_gradient if result == "x" else function.kernel_gradient)(a, b, shape)


@partial(jax.jit, static_argnames=("function", "result", "shape"))
def _choose(a: Array, b: Array, *, function: Bilinear, result: Result, shape: Shape | None) -> Array:
    options = {"function": function, "result": result, "shape": shape}
    ways = {"cpu": partial(_on_cpu, **options)}
    if result == "kernel" and function.cuda_kernel_gradient is not None:
        ways["cuda"] = partial(function.cuda_kernel_gradient, shape=shape)
    return lax.platform_dependent(a, b, **ways, default=partial(_native, **options))


def _evaluate(a: Array, b: Array, *, jaxpr: ClosedJaxpr, **options: Any) -> Array:
    return _choose(a, b, **options)


def _transpose_left(
    dout: Array, a: Any, b: Array, *, function: Bilinear, result: Result, shape: Shape | None, jaxpr: ClosedJaxpr
) -> Array:
    """The gradient of the first operand."""
    if result == "y":
        return _bind(function, "x", dout, b, a.aval.shape)
    if result == "x":
        return _bind(function, "y", dout, b)
    return _bind(function, "x", b, dout, a.aval.shape)


def _transpose_right(
    dout: Array, a: Array, b: Any, *, function: Bilinear, result: Result, shape: Shape | None, jaxpr: ClosedJaxpr
) -> Array:
    """The gradient of the second operand."""
    if result == "y":
        return _bind(function, "kernel", a, dout, b.aval.shape)
    if result == "x":
        return _bind(function, "kernel", dout, a, b.aval.shape)
    return _bind(function, "y", a, dout)


def _batch(
    operands: tuple[Array, Array],
    axes: tuple[Any, Any],
    *,
    function: Bilinear,
    result: Result,
    shape: Shape | None,
    jaxpr: ClosedJaxpr,
) -> tuple[Array, int]:
    """Adds the mapped axis to the batch where there is one kernel; otherwise maps what each platform does."""
    a, b = operands
    if result == "kernel" or axes[1] is not None:
        options = {"function": function, "result": result, "shape": shape}
        return jax.vmap(partial(_choose, **options), in_axes=axes)(a, b), 0
    a = jnp.moveaxis(a, axes[0], 0)
    many, batch = a.shape[:2]
    folded = None if shape is None else (many * batch, *shape[1:])
    out = _bind(function, result, a.reshape(many * batch, *a.shape[2:]), b, folded)
    return out.reshape(many, batch, *out.shape[1:]), 0


_bilinear.def_impl(_evaluate)
_bilinear.def_abstract_eval(lambda a, b, *, jaxpr, **_: jaxpr.out_avals[0])
mlir.register_lowering(_bilinear, mlir.lower_fun(_evaluate, multiple_results=False))
ad.defbilinear(_bilinear, _transpose_left, _transpose_right)
batching.primitive_batchers[_bilinear] = _batch
