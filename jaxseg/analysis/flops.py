"""Counts multiply-accumulates: those of every convolution and matrix product of a traced function.

The count does not depend on the platform: of a `jax.lax.platform_dependent`, the default branch is counted.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def count_macs(function: Callable, *args: Any) -> Counter:
    """Returns {name scope: multiply-accumulates} of `function(*args)`; nothing is run.

    Twice the sum is what some count as FLOPs. Linen modules are name scopes. Element-wise work is not counted.

    Args:
      function: traceable by JAX.
      *args: arrays or `jax.ShapeDtypeStruct`s.

    >>> import jax.numpy as jnp
    >>> count_macs(lambda a, b: a @ b, jnp.ones((2, 3)), jnp.ones((3, 5))).total()
    30
    """
    return count_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def count_jaxpr(jaxpr: Jaxpr, scope: str = "") -> Counter:
    """Returns the counts of a jaxpr whose name scopes lie below `scope`; see `count_macs`."""
    counts = Counter()
    for equation in jaxpr.eqns:
        inner = str(equation.source_info.name_stack)
        name = "/".join(part for part in (scope, inner) if part)
        if equation.primitive.name == "conv_general_dilated":
            counts[name] += _convolution(equation)
        elif equation.primitive.name == "dot_general":
            counts[name] += _product(equation)
        else:
            for jaxpr, times in _inside(equation):
                for below, count in count_jaxpr(jaxpr, name).items():
                    counts[below] += times * count
    return counts


def _convolution(equation: Any) -> int:
    """Every output element sums over the kernel's window and its group's input channels."""
    kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
    return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[numbers.rhs_spec[0]]


def _product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)


def _inside(equation: Any) -> list[tuple[Jaxpr, int]]:
    """Returns the jaxprs that an equation calls, and how often; a while loop counts as one pass."""
    params = equation.params
    if equation.primitive.name == "cond":
        platforms = params.get("branches_platforms")
        chosen = params["branches"]
        if platforms:  # the branch without a platform's name is the default
            chosen = [branch for branch, names in zip(chosen, platforms, strict=True) if not names]
        return [(max(chosen, key=lambda branch: count_jaxpr(branch.jaxpr).total()).jaxpr, 1)]
    times = params["length"] if equation.primitive.name == "scan" else 1
    values = [value for param in params.values() for value in (param if isinstance(param, tuple) else (param,))]
    closed = [value.jaxpr for value in values if isinstance(value, ClosedJaxpr)]
    return [(jaxpr, times) for jaxpr in closed + [value for value in values if isinstance(value, Jaxpr)]]
