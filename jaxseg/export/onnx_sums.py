"""JAX's operations that sum or compare many values, in ONNX; see `jaxseg.export.operations`."""

from typing import Any

import numpy as np

from jaxseg.export.onnx_arrange import cut
from jaxseg.export.onnx_graph import Graph, product


def reduction(graph: Graph, equation: Any, operator: str) -> str:
    """A sum, a product or an extreme over some axes."""
    axes = graph.integers(*equation.params["axes"])
    return graph.node(operator, [graph.name(equation.invars[0]), axes], keepdims=0)


def logical(graph: Graph, equation: Any, operator: str) -> str:
    """All, or any."""
    axes = graph.integers(*equation.params["axes"])
    found = graph.node(operator, [graph.cast(graph.name(equation.invars[0]), np.int32), axes], keepdims=0)
    return graph.cast(found, bool)


def extreme(graph: Graph, equation: Any, operator: str) -> str:
    """The first index of the largest or smallest."""
    (axis,) = equation.params["axes"]
    found = graph.node(operator, [graph.name(equation.invars[0])], axis=axis, keepdims=0)
    return graph.cast(found, equation.params["index_dtype"])


def cumsum(graph: Graph, equation: Any) -> str:
    """Sums of all values up to each."""
    name, axis = graph.name(equation.invars[0]), graph.array(np.int64(equation.params["axis"]))
    return graph.node("CumSum", [name, axis], reverse=int(equation.params["reverse"]))


def dot_general(graph: Graph, equation: Any) -> str:
    """Products of matrices [batch, rows, inner] and [batch, inner, columns], which may be broadcast along the batch."""
    (left, right), numbers = equation.invars, equation.params["dimension_numbers"]
    (inner_left, inner_right), (batch_left, batch_right) = numbers
    names, free = [], []
    for atom, inner, batch, last in ((left, inner_left, batch_left, True), (right, inner_right, batch_right, False)):
        shape = atom.aval.shape
        rest = [n for n in range(len(shape)) if n not in (*inner, *batch)]
        loose = graph.shape(atom)  # of a matrix for all of a batch, the batch has length 1
        ready = len(loose) == len(shape) and all(loose[n] == shape[n] for n in (*inner, *rest))
        ready = ready and (all(loose[n] == 1 for n in batch) or loose == tuple(shape))
        name, sides = (graph.loose(atom), loose) if ready else (graph.name(atom), shape)
        name = graph.permute(name, [*batch, *rest, *inner] if last else [*batch, *inner, *rest])
        around, within = product([sides[n] for n in batch]), product([shape[n] for n in inner])
        matrix = [product([shape[n] for n in rest]), within] if last else [within, product([shape[n] for n in rest])]
        wanted = [around, *matrix] if batch else matrix
        if name in graph.arrays:
            name = graph.array(graph.arrays[name].reshape(wanted))
        elif tuple(wanted) != tuple(sides[n] for n in ([*batch, *rest, *inner] if last else [*batch, *inner, *rest])):
            name = graph.reshape(name, wanted)
        names.append(name)
        free.append([shape[n] for n in rest])
    found = graph.node("MatMul", names)
    batch = [left.aval.shape[n] for n in batch_left]
    made = [*([product(batch)] if batch else []), product(free[0]), product(free[1])]
    out = equation.outvars[0].aval
    found = found if tuple(made) == tuple(out.shape) else graph.reshape(found, out.shape)
    return found if out.dtype == left.aval.dtype else graph.cast(found, out.dtype)


def convolution(graph: Graph, equation: Any) -> str:
    """A convolution; with zeros between the pixels, a transposed one."""
    (x, kernel), p = equation.invars, equation.params
    numbers, size = p["dimension_numbers"], len(p["window_strides"])
    spread = any(n != 1 for n in p["lhs_dilation"])
    shapes = [kernel.aval.shape[n] for n in numbers.rhs_spec]  # (out, in, height, width)
    if p["batch_group_count"] != 1 or (spread and (p["feature_group_count"] != 1 or set(p["rhs_dilation"]) != {1})):
        raise NotImplementedError("a transposed convolution in groups, or dilated")
    if spread and set(p["window_strides"]) != {1}:
        raise NotImplementedError("a strided convolution with zeros between its pixels")
    low, high = zip(*p["padding"], strict=True)
    image = graph.permute(graph.name(x), list(numbers.lhs_spec))
    order = list(numbers.rhs_spec)
    if spread:
        weights = graph.permute(graph.name(kernel), [order[1], order[0], *order[2:]])
        weights = _turned(graph, weights, size)
        sides = [(k - 1 - a, k - 1 - b) for k, a, b in zip(shapes[2:], low, high, strict=True)]
        begin, end = [a for a, _ in sides], [max(b, 0) for _, b in sides]
        if min(begin) < 0:
            raise NotImplementedError("a transposed convolution of fewer pixels")
        extra = [max(-b, 0) for _, b in sides]
        options = {"strides": list(p["lhs_dilation"]), "pads": [*begin, *end], "output_padding": extra}
        found = graph.node("ConvTranspose", [image, weights], **options)
    else:
        if min(*low, *high) < 0:
            raise NotImplementedError("a convolution with negative padding")
        found = graph.node(
            "Conv",
            [image, graph.permute(graph.name(kernel), order)],
            strides=list(p["window_strides"]),
            pads=[*low, *high],
            dilations=list(p["rhs_dilation"]),
            group=p["feature_group_count"],
        )
    return graph.permute(found, np.argsort(numbers.out_spec).tolist())


def _turned(graph: Graph, weights: str, size: int) -> str:
    """A kernel turned by half a circle."""
    axes = list(range(2, 2 + size))
    if weights in graph.arrays:
        return graph.array(np.ascontiguousarray(np.flip(graph.arrays[weights], axes)))
    least = np.iinfo(np.int64).min
    return cut(graph, weights, [-1] * size, [least] * size, axes, [-1] * size)
