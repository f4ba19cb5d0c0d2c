"""Dependence of a traced function's results on parts of an image: interval arithmetic over its jaxpr.

One axis of the image at a time. For every element of every array, the first and the last row (or column) that can
reach it: the smallest interval around them. Where all elements along an axis are alike it has length 1, so that a deep
network at 4096 pixels is a few thousand numbers.

Convolutions, poolings, slices, reshapes and products with constant matrices (resizing, adaptive pooling) are exact:
what padding or a zero of the matrix keeps out stays out. What a primitive without a rule returns is taken to depend on
all that it was given, so that an interval is never too small.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from jaxseg.analysis.span_rules import (
    ELEMENTWISE,
    NOTHING,
    RULES,
    Operand,
    Operands,
    Span,
    constant,
    everything,
    reduction,
    union,
)


def spans(function: Callable, image: jax.ShapeDtypeStruct, *, axis: int, averages: bool = True) -> Any:
    """Returns what of the image's rows (`axis` 1) or columns (2) each element that `function` returns depends on.

    Args:
      function: of one array, traceable by JAX; nothing is run.
      image: shape and dtype of the argument, [b, h, w, c].
      axis: of `image`.
      averages: include dependencies through global operations (pooling, attention); if False they are ignored.

    Returns:
      As `function` returns, for every array int32[2, …]: first and last pixel, along axes of the array's length, or
      of length 1 where all elements are alike. An element that depends on no pixel has a last one before the first.

    >>> import jax.numpy as jnp
    >>> image = jax.ShapeDtypeStruct((1, 6, 1, 1), jnp.float32)
    >>> spans(lambda x: x[:, 1:] + x[:, :-1], image, axis=1)[..., 0, 0].squeeze(1).tolist()
    [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]]
    """
    program, shapes = jax.make_jaxpr(function, return_shape=True)(image)
    results = trace_spans(program, image.shape, axis=axis, averages=averages)
    return jax.tree.unflatten(jax.tree.structure(shapes), results)


def trace_spans(program: ClosedJaxpr, shape: Sequence[int], *, axis: int, averages: bool = True) -> list[np.ndarray]:
    """Returns the intervals of all results of a traced program of an image of `shape`; see `spans`."""
    size = shape[axis]
    pixel = np.arange(size, dtype=np.int32)
    image = Span(np.stack([pixel, -pixel]).reshape(2, *[size if a == axis else 1 for a in range(len(shape))]))
    results = []
    for variable, result in zip(program.jaxpr.outvars, _Walk(size, averages).run(program, [image]), strict=True):
        nothing = np.full((2, *[1] * len(variable.aval.shape)), NOTHING, np.int32)
        first, last = result.bounds if isinstance(result, Span) else nothing
        results.append(np.stack([first, np.where(last == NOTHING, -1, -last)]))
    return results


class _Walk:
    """Goes through equations; a value is a `Span`, an array that is known, or None: unknown, but without an image."""

    def __init__(self, size: int, averages: bool):
        self.size = size
        self.averages = averages

    def run(self, program: ClosedJaxpr, inputs: Operands) -> list[Operand]:
        jaxpr = program.jaxpr
        values = dict(zip(jaxpr.constvars, map(_known, program.consts), strict=True))
        values |= zip(jaxpr.invars, inputs, strict=True)

        def read(x: Var | Literal) -> Operand:
            return _known(x.val) if isinstance(x, Literal) else values[x]

        for equation in jaxpr.eqns:
            results = self.apply(equation, [read(x) for x in equation.invars])
            values |= zip(equation.outvars, results, strict=True)
        return [read(x) for x in jaxpr.outvars]

    def apply(self, equation: JaxprEqn, operands: list[Operand]) -> list[Operand]:
        name, params, count = equation.primitive.name, equation.params, len(equation.outvars)
        drawn = any(isinstance(x, Span) for x in operands)
        if not drawn and any(x is None for x in operands):  # parameters, and how they are drawn
            return [None] * count
        inner = _inside(name, params)
        if inner:
            results = [self.run(program, operands[-len(program.jaxpr.invars) :]) for program in inner]
            return [parts[0] if len(parts) == 1 else union(*parts) for parts in zip(*results, strict=True)]
        shapes, out = [x.aval.shape for x in equation.invars], equation.outvars[0].aval.shape
        if not drawn:
            return [constant(name, operands, out, params)] if count == 1 else [None] * count
        if name in ELEMENTWISE:
            return [union(*operands)] * count
        rule = RULES.get(name) or (reduction if "axes" in params and name.startswith(("reduce_", "arg")) else None)
        if rule:
            results = rule(operands, shapes, out, params)
            results = results if isinstance(results, list) else [results] * count
        else:
            results = [everything(operands, len(x.aval.shape)) for x in equation.outvars]
        return [None if self._dropped(result, operands) else result for result in results]

    def _dropped(self, result: Span, operands: list[Operand]) -> bool:
        """Whether averages do not count, and `result` is one that made the whole image out of parts of it."""

        def whole(x: Span) -> bool:
            return bool(((x.bounds[0] == 0) & (x.bounds[1] == 1 - self.size)).any())

        seen = [x for x in operands if isinstance(x, Span)]
        return not self.averages and result.summed and whole(result) and not any(map(whole, seen))


def _inside(name: str, params: dict[str, Any]) -> list[ClosedJaxpr]:
    """The programs, one of which an equation runs on its last operands; loops have none."""
    if name == "cond":
        platforms = params.get("branches_platforms")
        if not platforms:
            return list(params["branches"])
        return [b for b, names in zip(params["branches"], platforms, strict=True) if not names]  # the default
    if name in ("scan", "while"):
        return []
    parts = [params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params][:1]
    return [ClosedJaxpr(part, ()) if isinstance(part, Jaxpr) else part for part in parts]


def _known(value: Any) -> np.ndarray | None:
    """A constant as NumPy has it; None for a key of a random number generator."""
    return None if jax.dtypes.issubdtype(getattr(value, "dtype", None), jax.dtypes.extended) else np.asarray(value)
