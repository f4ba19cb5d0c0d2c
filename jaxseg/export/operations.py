"""What each of JAX's operations is in ONNX: those that a flat program of a segmentation network is made of.

A rule takes the graph and the equation and returns the value of the result. Operations that no rule knows are an error
when a model is exported, before anything is written.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxseg.export.onnx_arrange import (
    broadcast_in_dim,
    concatenate,
    dimension,
    dynamic_slice,
    gather,
    iota,
    pad,
    reshape,
    rev,
    slice_,
    split,
    stack,
    transpose,
)
from jaxseg.export.onnx_elementwise import (
    clamp,
    composed,
    convert_element_type,
    elementwise,
    erfc,
    integer_pow,
    is_finite,
    not_equal,
    rem,
    round_,
    rsqrt,
    select_n,
    square,
)
from jaxseg.export.onnx_graph import Graph
from jaxseg.export.onnx_sums import convolution, cumsum, dot_general, extreme, logical, reduction

Rule = Callable[[Graph, Any], Any]

UNARY = {
    **{"exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid", "erf": "Erf", "neg": "Neg", "abs": "Abs"},
    **{"sign": "Sign", "floor": "Floor", "ceil": "Ceil", "sqrt": "Sqrt", "sin": "Sin", "cos": "Cos", "not": "Not"},
    **{"copy": "Identity", "copy_p": "Identity", "stop_gradient": "Identity"},
}
BINARY = {
    **{"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow"},
    **{"add_any": "Add", "and": "And", "or": "Or", "xor": "Xor"},
    **{"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"},
}
REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}

RULES: dict[str, Rule] = {
    **{name: partial(elementwise, operator=operator) for name, operator in (UNARY | BINARY).items()},
    **{name: partial(reduction, operator=operator) for name, operator in REDUCTIONS.items()},
    **{name: partial(composed, compute=f) for name, f in {"square": square, "rsqrt": rsqrt, "ne": not_equal}.items()},
    **{name: partial(composed, compute=f) for name, f in {"is_finite": is_finite, "clamp": clamp}.items()},
    "argmax": partial(extreme, operator="ArgMax"),
    "argmin": partial(extreme, operator="ArgMin"),
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "conv_general_dilated": convolution,
    "convert_element_type": convert_element_type,
    "cumsum": cumsum,
    "dim_as_value": dimension,
    "erfc": partial(composed, compute=erfc),
    "dot_general": dot_general,
    "dynamic_slice": dynamic_slice,
    "expand_dims": reshape,
    "gather": gather,
    "integer_pow": integer_pow,
    "iota": iota,
    "pad": pad,
    "reduce_and": partial(logical, operator="ReduceMin"),
    "reduce_or": partial(logical, operator="ReduceMax"),
    "rem": rem,
    "reshape": reshape,
    "rev": rev,
    "round": round_,
    "select_n": select_n,
    "slice": slice_,
    "split": split,
    "squeeze": reshape,
    "stack": stack,
    "transpose": transpose,
}


def to_onnx(program: ClosedJaxpr, given: str, returned: str) -> Any:
    """Returns a flat program of one array as an `onnx.ModelProto`.

    Args:
      program: of `jaxseg.export.program.flatten`.
      given: name of its operand.
      returned: name of its result.

    Raises:
      NotImplementedError: no rule knows an operation; the message names it.
    """
    graph, jaxpr = Graph(), program.jaxpr
    for var, value in zip(jaxpr.constvars, program.consts, strict=True):
        graph.bind(var, np.asarray(value))
    graph.add_input(jaxpr.invars[0], given)
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name not in RULES:
            raise NotImplementedError(f"ONNX has no rule for JAX's '{name}'")
        found = RULES[name](graph, equation)
        for var, value in zip(equation.outvars, found if isinstance(found, list) else [found], strict=True):
            graph.bind(var, *(value if isinstance(value, tuple) else (value,)))
    return graph.model(jaxpr.invars[0], given, jaxpr.outvars[0], returned)
