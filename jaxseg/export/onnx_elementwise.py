"""JAX's operations element by element, in ONNX; see `jaxseg.export.operations`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxseg.export.onnx_graph import Graph, is_float

SELECTED = ("uint8", "int32", "int64", "float32")  # types that onnxruntime's Where takes


def elementwise(graph: Graph, equation: Any, operator: str, **attributes: Any) -> tuple[str, tuple[Any, ...]]:
    """An operation element by element; what is to broadcast stays so, as long as all operands are."""
    if operator in ("And", "Or", "Xor", "Not") and equation.outvars[0].aval.dtype != bool:
        raise NotImplementedError(f"{operator} of bits")
    shapes = [graph.shape(atom) for atom in equation.invars]
    names, order = graph.before_turning([graph.loose(a) for a in equation.invars], shapes)
    zeros = [name for name in names if operator == "Max" and _is_zero(graph, name)]
    if len(names) == 2 and len(zeros) == 1 and is_float(equation.outvars[0].aval.dtype):
        operator, names = "Relu", [name for name in names if name not in zeros]  # which convolutions take along
    found = graph.node(operator, names, **attributes)
    return (graph.permute(found, order) if order else found), _joined(shapes)


def _is_zero(graph: Graph, name: str) -> bool:
    """Whether a value is a constant of one number, 0."""
    return name in graph.arrays and graph.arrays[name].size == 1 and not graph.arrays[name].any()


def _joined(shapes: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The shape of a broadcast; scalars have no sides."""
    rank = max(map(len, shapes))
    shapes = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((n for n in sides if not isinstance(n, int) or n != 1), 1) for sides in zip(*shapes, strict=True))


def composed(graph: Graph, equation: Any, compute: Callable[..., str]) -> tuple[str, tuple[Any, ...]]:
    """A function of the operands' names, element by element."""
    return compute(graph, *map(graph.loose, equation.invars)), _joined([graph.shape(a) for a in equation.invars])


def integer_pow(graph: Graph, equation: Any) -> tuple[str, tuple[Any, ...]]:
    """Small powers are products."""
    (x,), y = map(graph.loose, equation.invars), equation.params["y"]
    shape = graph.shape(equation.invars[0])
    powers = {1: x, 2: graph.node("Mul", [x, x])}
    found = powers.get(abs(y)) or graph.node(
        "Pow", [x, graph.array(np.asarray(abs(y), equation.outvars[0].aval.dtype))]
    )
    return (graph.node("Reciprocal", [found]) if y < 0 else found), shape


def square(graph: Graph, x: str) -> str:
    """A number times itself."""
    return graph.node("Mul", [x, x])


def rsqrt(graph: Graph, x: str) -> str:
    """1 / the square root."""
    return graph.node("Reciprocal", [graph.node("Sqrt", [x])])


def erfc(graph: Graph, x: str) -> str:
    """1 - the error function."""
    erf = graph.node("Erf", [x])
    return graph.node("Sub", [graph.array(np.float32(1)), erf])


def not_equal(graph: Graph, x: str, y: str) -> str:
    """Where two differ."""
    return graph.node("Not", [graph.node("Equal", [x, y])])


def is_finite(graph: Graph, x: str) -> str:
    """Where numbers are neither infinite nor nan."""
    return graph.node("Not", [graph.node("Or", [graph.node("IsNaN", [x]), graph.node("IsInf", [x])])])


def clamp(graph: Graph, low: str, x: str, high: str) -> str:
    """Numbers between two bounds."""
    return graph.node("Max", [graph.node("Min", [x, high]), low])


def rem(graph: Graph, equation: Any) -> tuple[str, tuple[Any, ...]]:
    """The rest of a division, of the dividend's sign."""
    return elementwise(graph, equation, "Mod", fmod=1)


def convert_element_type(graph: Graph, equation: Any) -> tuple[str, tuple[Any, ...]]:
    """Numbers of another type; fractions are cut off."""
    (x,) = equation.invars
    return graph.cast(graph.loose(x), equation.params["new_dtype"]), graph.shape(x)


def select_n(graph: Graph, equation: Any) -> tuple[str, tuple[Any, ...]]:
    """The second case where the first operand is true."""
    which, *cases = equation.invars
    if len(cases) != 2 or which.aval.dtype != bool:
        raise NotImplementedError(f"select_n of {len(cases)} cases by {which.aval.dtype}")
    dtype = equation.outvars[0].aval.dtype
    names, through = [graph.loose(case) for case in cases], None
    if dtype.name not in SELECTED:
        through = np.float32 if is_float(dtype) else np.int32
        names = [graph.cast(name, through) for name in names]
    found = graph.node("Where", [graph.loose(which), names[1], names[0]])
    shape = _joined([graph.shape(atom) for atom in equation.invars])
    return (graph.cast(found, dtype) if through else found), shape


def round_(graph: Graph, equation: Any) -> tuple[str, tuple[Any, ...]]:
    """Halves become even numbers."""
    if int(equation.params["rounding_method"]) != 1:
        raise NotImplementedError("round, halves away from zero")
    return elementwise(graph, equation, "Round")
