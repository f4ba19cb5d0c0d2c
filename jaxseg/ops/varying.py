"""What an array is inside of `jax.shard_map`: equal on all devices, or of another value on each.

JAX knows of every array over which axes of the mesh it varies, and refuses a loop whose carry begins equal and becomes
varying, or a product whose derivatives disagree. Elsewhere nothing varies, and `vary_like` adds nothing to a program.
"""

from typing import Any

import jax
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array


def varying_axes(x: Any) -> frozenset[str]:
    """Returns the axes of the mesh over which `x` varies: none outside of `jax.shard_map`.

    >>> varying_axes(jax.numpy.ones(2))
    frozenset()
    """
    kind = jax.typeof(x)
    if hasattr(kind, "vma"):  # up to some release between jax 0.8 and 0.10
        return frozenset(kind.vma)
    return frozenset(kind.manual_axis_type.varying)


def vary_like(x: ArrayLike, *others: ArrayLike) -> Array:
    """Returns `x`, for JAX a value that varies over every axis over which one of `others` does.

    >>> int(vary_like(3, jax.numpy.ones(2)))
    3
    """
    x = jax.numpy.asarray(x)
    missing = frozenset().union(*map(varying_axes, others)) - varying_axes(x)
    if not missing:
        return x
    if hasattr(lax, "pcast"):
        return lax.pcast(x, tuple(sorted(missing)), to="varying")
    return lax.pvary(x, tuple(sorted(missing)))


def operand(shape: tuple[int, ...], *others: Array) -> Any:
    """Returns what stands for an operand of `shape` in `jax.linear_transpose`: of the dtype and the kind of `others`.

    Did it not vary where they do, its gradient would be summed over the devices.

    >>> operand((2, 3), jax.numpy.ones(2))
    ShapeDtypeStruct(shape=(2, 3), dtype=float32)
    """
    if not any(map(varying_axes, others)):
        return jax.ShapeDtypeStruct(shape, others[0].dtype)
    return vary_like(jax.numpy.zeros(shape, others[0].dtype), *others)
