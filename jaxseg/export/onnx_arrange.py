"""JAX's operations that put values elsewhere, in ONNX; see `jaxseg.export.operations`."""

from typing import Any

import numpy as np

from jaxseg.export.onnx_graph import Graph


def broadcast_in_dim(graph: Graph, equation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Sides of length 1 are added, and are as long as they should be when somebody needs it."""
    x, wanted = equation.invars[0], equation.params["shape"]
    old = graph.shape(x) or ()
    if len(old) < len(equation.params["broadcast_dimensions"]):
        old = (1,) * (len(equation.params["broadcast_dimensions"]) - len(old)) + old
    shape: list[Any] = [1] * len(wanted)
    for axis, length in zip(equation.params["broadcast_dimensions"], old, strict=True):
        shape[axis] = length
    value = graph.value(x)
    if isinstance(value, np.ndarray):
        return value.reshape(shape), tuple(shape)
    return (value if tuple(shape) == graph.shape(x) else graph.reshape(value, shape)), tuple(shape)


def reshape(graph: Graph, equation: Any) -> str:
    """The same values in another shape."""
    return graph.reshape(graph.name(equation.invars[0]), equation.outvars[0].aval.shape)


def transpose(graph: Graph, equation: Any) -> tuple[str, tuple[Any, ...]]:
    """The same values, their axes in another order."""
    (x,), order = equation.invars, list(equation.params["permutation"])
    return graph.permute(graph.loose(x), order), tuple(graph.shape(x)[i] for i in order)


def rev(graph: Graph, equation: Any) -> str:
    """Values in reverse along some axes."""
    axes = equation.params["dimensions"]
    least = np.iinfo(np.int64).min
    return cut(graph, graph.name(equation.invars[0]), [-1] * len(axes), [least] * len(axes), axes, [-1] * len(axes))


def slice_(graph: Graph, equation: Any) -> str:
    """A part of values, every so many."""
    p, shape = equation.params, equation.invars[0].aval.shape
    strides = p["strides"] or (1,) * len(shape)
    sides = zip(p["start_indices"], p["limit_indices"], strides, shape, strict=True)
    kept = [(axis, *side[:3]) for axis, side in enumerate(sides) if side[:3] != (0, side[3], 1)]
    name = graph.name(equation.invars[0])
    if not kept:
        return name
    axes, starts, ends, steps = zip(*kept, strict=True)
    return cut(graph, name, starts, ends, axes, steps)


def cut(graph: Graph, name: str, starts: Any, ends: Any, axes: Any, steps: Any) -> str:
    """Returns the name of a part of values; lengths may be symbols."""
    options = [graph.lengths(tuple(values)) for values in (starts, ends, axes, steps)]
    return graph.node("Slice", [name, *options])


def dynamic_slice(graph: Graph, equation: Any) -> str:
    """A part that starts where other values say, and lies inside."""
    x, *starts = equation.invars
    sizes, shape = equation.params["slice_sizes"], x.aval.shape
    axes = [axis for axis, (size, length) in enumerate(zip(sizes, shape, strict=True)) if size != length]
    name = graph.name(x)
    for axis in axes:
        start = graph.reshape(graph.cast(graph.name(starts[axis]), np.int64), (1,))
        last = graph.length(shape[axis] - sizes[axis])
        start = graph.node("Max", [graph.node("Min", [start, last]), graph.integers(0)])
        end = graph.node("Add", [start, graph.length(sizes[axis])])
        name = graph.node("Slice", [name, start, end, graph.integers(axis), graph.integers(1)])
    return name


def pad(graph: Graph, equation: Any) -> str:
    """Values around, or fewer of them; between them by way of an axis more."""
    x, fill = equation.invars
    config, name, shape = equation.params["padding_config"], graph.name(x), list(x.aval.shape)
    for axis, (_, _, between) in enumerate(config):
        if between:
            apart = [*shape[: axis + 1], 1, *shape[axis + 1 :]]
            ends = [0] * len(apart) * 2
            ends[len(apart) + axis + 1] = between
            name = graph.node("Pad", [graph.reshape(name, apart), graph.integers(*ends), graph.name(fill)])
            length, shape[axis] = shape[axis], shape[axis] * (between + 1)
            name = cut(graph, graph.reshape(name, shape), [0], [shape[axis] - between], [axis], [1])
            shape[axis] = length + (length - 1) * between
    before, after = ([max(side[i], 0) for side in config] for i in (0, 1))
    if any(before + after):
        name = graph.node("Pad", [name, graph.lengths((*before, *after)), graph.name(fill)])
    fewer = [(axis, max(-low, 0), max(-high, 0)) for axis, (low, high, _) in enumerate(config) if min(low, high) < 0]
    if fewer:
        longer = [length + low + high for length, low, high in zip(shape, before, after, strict=True)]
        axes = [axis for axis, _, _ in fewer]
        ends = [longer[axis] - high for axis, _, high in fewer]
        name = cut(graph, name, [low for _, low, _ in fewer], ends, axes, [1] * len(axes))
    return name


def concatenate(graph: Graph, equation: Any) -> str:
    """Values one after the other along an axis."""
    names, axis = [graph.name(x) for x in equation.invars], equation.params["dimension"]
    if all(name in graph.turned for name in names):
        names, order = graph.before_turning(names, [x.aval.shape for x in equation.invars])
        if order:
            return graph.permute(graph.node("Concat", names, axis=order[axis]), order)
    return graph.node("Concat", names, axis=axis)


def split(graph: Graph, equation: Any) -> list[str]:
    """Parts of values along an axis."""
    sizes, axis = equation.params["sizes"], equation.params["axis"]
    names = [graph.name(equation.invars[0]), graph.integers(*map(int, sizes))]
    found = graph.node("Split", names, outputs=len(sizes), axis=axis)
    return found if len(sizes) > 1 else [found]


def gather(graph: Graph, equation: Any) -> str:
    """Places of some axes by themselves, as `jnp.take` and strides pick them."""
    x, indices = equation.invars
    numbers, sizes, shape = equation.params["dimension_numbers"], equation.params["slice_sizes"], x.aval.shape
    axes, rank = numbers.start_index_map, len(equation.outvars[0].aval.shape)
    picked = tuple(n for n in range(rank) if n not in numbers.offset_dims)
    whole = all(size == 1 if n in axes else size == shape[n] for n, size in enumerate(sizes))
    places, name = graph.value(indices), graph.name(x)
    if whole and numbers.collapsed_slice_dims == tuple(axes) == picked:
        if len(axes) == 1:
            return graph.node(
                "Gather", [name, graph.reshape(graph.name(indices), indices.aval.shape[:-1])], axis=axes[0]
            )
        if isinstance(places, np.ndarray) and places.ndim == len(axes) + 1:
            lines = [np.moveaxis(places[..., n], n, 0).reshape(places.shape[n], -1)[:, 0] for n in range(len(axes))]
            if np.array_equal(np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1), places):
                for axis, line in zip(axes, lines, strict=True):
                    name = graph.node("Gather", [name, graph.array(line)], axis=axis)
                return name
    if whole and numbers.collapsed_slice_dims == axes and len(axes) == indices.aval.ndim == 1:  # one place
        return graph.node("Gather", [name, graph.reshape(graph.name(indices), ())], axis=axes[0])
    if _is_along_axis(equation):
        (axis,) = axes
        count = indices.aval.shape[1]
        if graph.shape(indices)[:1] == (1,) and isinstance(count, int):  # the same places of all of a batch
            found = graph.reshape(graph.loose(indices), (count,))
            return graph.node("Gather", [name, found], axis=axis)
        order = [0, axis, *(n for n in range(1, len(shape)) if n != axis)]
        places = graph.cast(graph.reshape(graph.name(indices), (*indices.aval.shape[:2], 1)), np.int64)
        found = graph.node("GatherND", [graph.permute(name, order), places], batch_dims=1)
        return graph.permute(found, np.argsort(order).tolist())
    raise NotImplementedError(f"gather of {numbers}")


def _is_along_axis(equation: Any) -> bool:
    """Whether a gather picks places of one axis, other ones of each image, as `jnp.take_along_axis` does."""
    x, indices = equation.invars
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    axes = numbers.start_index_map
    if len(axes) != 1 or numbers.collapsed_slice_dims != axes or numbers.operand_batching_dims != (0,):
        return False
    whole = all(size == (1 if n in (0, *axes) else x.aval.shape[n]) for n, size in enumerate(sizes))
    rest = tuple(n for n in range(1, len(x.aval.shape)) if n != axes[0])
    return whole and numbers.offset_dims == rest and len(indices.aval.shape) == 3


def stack(graph: Graph, equation: Any) -> str:
    """Values one beside the other along an axis of its own."""
    axis, shape = equation.params["axis"], list(equation.invars[0].aval.shape)
    apart = [*shape[:axis], 1, *shape[axis:]]
    return graph.node("Concat", [graph.reshape(graph.name(x), apart) for x in equation.invars], axis=axis)


def iota(graph: Graph, equation: Any) -> np.ndarray:
    """Numbers that go up along an axis."""
    shape, axis = equation.params["shape"], equation.params["dimension"]
    numbers = np.arange(shape[axis], dtype=equation.params["dtype"])
    return np.ascontiguousarray(
        np.broadcast_to(numbers.reshape([-1 if n == axis else 1 for n in range(len(shape))]), shape)
    )


def dimension(graph: Graph, equation: Any) -> str:
    """The value of a symbol, as a scalar."""
    return graph.cast(graph.reshape(graph.length(equation.params["dim"]), ()), equation.outvars[0].aval.dtype)
