"""Programs in a form that other tools know: flat, of JAX's own operations, each platform's special ways left out.

A traced program holds calls of parts of itself, rules of derivation, one branch for every platform that has a way of
its own (`jax.lax.platform_dependent`, `jaxseg.ops.platform`), results that nobody asked for, and what depends on
weights alone and is the same in every call. None of this is left here.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.interpreters import partial_eval
from jaxtyping import Array

UNROLLED = 64  # steps of a loop that are written out, one after the other
MANY = 2**12  # numbers that a broadcast constant may have, to be one of the program
# The operations that run a program, and where they have it.
CALLS = {
    **dict.fromkeys(("jit", "pjit", "closed_call", "checkpoint", "remat", "remat2", "platform_bilinear"), "jaxpr"),
    **dict.fromkeys(("core_call", "custom_jvp_call", "custom_vjp_call"), "call_jaxpr"),
}


def flatten(function: Callable[..., Array], *arguments: Any) -> ClosedJaxpr:
    """Returns the program of a function of arrays, with the platforms' default ways alone and nothing left to call.

    Args:
      function: of arrays, to one array. What it closes over is constant.
      *arguments: arrays, or `jax.ShapeDtypeStruct`s of them.

    >>> def double(x):
    ...     part = jax.jit(lambda x: jax.lax.platform_dependent(x, cpu=lambda x: x + x, default=lambda x: x * 2))
    ...     return part(x) + np.ones(2).sum()
    >>> program = flatten(double, jax.ShapeDtypeStruct((2,), "float32"))
    >>> [str(equation.primitive) for equation in program.eqns]
    ['mul', 'add']
    """
    traced = jax.make_jaxpr(function)(*arguments)
    closed = jax.make_jaxpr(lambda *given: evaluate(traced, given))(*traced.in_avals)
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    used = {v for equation in jaxpr.eqns for v in equation.invars if not isinstance(v, Literal)}
    used |= {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    kept = [(v, c) for v, c in zip(jaxpr.constvars, closed.consts, strict=True) if v in used]
    return ClosedJaxpr(jaxpr.replace(constvars=[v for v, _ in kept]), [c for _, c in kept])


def evaluate(program: ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    """Returns the results of a program; under a transformation of JAX they are traced equation by equation.

    What depends on constants alone is computed at once.

    Args:
      program: of `jax.make_jaxpr`.
      arguments: of the program.
    """
    jaxpr = program.jaxpr
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*program.consts, *arguments), strict=True))
    for equation in jaxpr.eqns:
        operands = [v.val if isinstance(v, Literal) else values[v] for v in equation.invars]
        values |= zip(equation.outvars, _apply(equation, operands), strict=True)
    return [v.val if isinstance(v, Literal) else values[v] for v in jaxpr.outvars]


def _apply(equation: Any, operands: list[Any]) -> Sequence[Any]:
    """The results of one equation."""
    name, params = equation.primitive.name, equation.params
    if name == "platform_index":
        return [np.int32(0)]  # which `_branch` leaves alone
    if name == "cond" and params.get("branches_platforms"):
        return evaluate(_default_branch(params), operands[1:])
    if name == "scan" and params["length"] <= UNROLLED:
        return _unroll(params, operands)
    if name in CALLS:
        inner = params[CALLS[name]]
        return evaluate(ClosedJaxpr(inner, ()) if isinstance(inner, Jaxpr) else inner, operands)
    known = not any(isinstance(x, jax.core.Tracer) for x in operands) and _is_worth_knowing(equation)
    with jax.ensure_compile_time_eval() if known else contextlib.nullcontext():
        results = equation.primitive.bind(*operands, **params)
    return results if equation.primitive.multiple_results else [results]


def _is_worth_knowing(equation: Any) -> bool:
    """Whether constants may become constants: not lengths that a call chooses, nor many numbers made of few."""
    if equation.primitive.name == "dim_as_value":
        return False
    made = [var.aval.size for var in equation.outvars]
    if not all(isinstance(size, int) for size in made):
        return False
    return equation.primitive.name != "broadcast_in_dim" or made[0] <= max(MANY, equation.invars[0].aval.size)


def _default_branch(params: dict[str, Any]) -> ClosedJaxpr:
    """The branch for a platform that has no way of its own."""
    chosen = [b for b, names in zip(params["branches"], params["branches_platforms"], strict=True) if not names]
    return chosen[0]


def _unroll(params: dict[str, Any], operands: list[Any]) -> Sequence[Any]:
    """The results of a loop whose number of steps is known, each step by itself."""
    if "num_consts" in params:
        fixed, count = params["num_consts"], params["num_carry"]
    else:  # jax 0.11 has trees of what goes in: constants, what is carried, rows
        fixed, count, _ = (len(part) for part in params["ft_in"].unpack())
    carried = fixed + count
    carry, rows = operands[fixed:carried], operands[carried:]
    made: list[list[Any]] = []
    steps = range(params["length"])
    for i in reversed(steps) if params["reverse"] else steps:
        results = evaluate(
            params["jaxpr"], [*operands[:fixed], *carry, *(lax.index_in_dim(row, i, keepdims=False) for row in rows)]
        )
        carry = results[:count]
        made.append(results[count:])
    made = made[::-1] if params["reverse"] else made
    return [*carry, *(jnp.stack(column) for column in zip(*made, strict=True))]
