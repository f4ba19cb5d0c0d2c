"""Rules for each operation by which `jaxseg.analysis.spans` follows what its result depends on."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

NOTHING = np.iinfo(np.int32).max  # as a bound: no pixel at all
LARGEST = 2**24  # elements of a product of two spans, beyond which one of them is taken as a whole

# Every element of these depends on the elements of the operands at its own place.
ELEMENTWISE = (
    *("abs", "add", "and", "cbrt", "ceil", "clamp", "convert_element_type", "copy", "cos", "cosh", "div", "eq", "erf"),
    *("erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p"),
    *("logistic", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "optimization_barrier", "or", "pow"),
    *("reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square"),
    *("stop_gradient", "sub", "tan", "tanh", "xor"),
)


Bounds = Int[np.ndarray, "2 ..."]


class Span(NamedTuple):
    """The intervals of an array's elements."""

    bounds: Bounds  # int32[2, *shape]: the first pixels, and the last ones negated; an axis may have length 1
    summed: bool = False  # over a whole axis


Operand = Span | np.ndarray | None  # a known array, or None: unknown, but without an image
Operands = Sequence[Operand]
Shape = Sequence[int]
Shapes = Sequence[Shape]
Params = Mapping[str, Any]  # of a primitive


def union(*parts: Operand) -> Span | None:
    """Returns the smallest intervals around those of all parts that are spans; None if there is none."""
    bounds = [part.bounds for part in parts if isinstance(part, Span)]
    if not bounds:
        return None
    rank = max(b.ndim for b in bounds)  # a scalar goes with every element
    bounds = [b if b.ndim == rank else b.reshape(2, *[1] * (rank - 1)) for b in bounds]
    result = bounds[0]
    for other in bounds[1:]:
        result = np.minimum(result, other)
    return Span(result)


def everything(operands: Operands, rank: int) -> Span:
    """Returns one interval around all that the operands depend on, for every element."""
    bounds = np.minimum.reduce([x.bounds.reshape(2, -1).min(1) for x in operands if isinstance(x, Span)])
    return Span(bounds.reshape(2, *[1] * rank), summed=True)


def constant(name: str, operands: Operands, out: Shape, params: Params) -> np.ndarray | None:
    """Returns what an operation makes of operands without an image, if it is but another layout of one that is known.

    Args:
      name: of the primitive.
      operands: arrays, or None for what is not known.
      out: shape of the result.
      params: the primitive's.
    """
    if len(operands) != 1 or operands[0] is None:
        return None
    if name == "broadcast_in_dim":
        return np.broadcast_to(operands[0].reshape(_place(params, operands[0].shape, len(out))), out)
    return operands[0] if name in ("convert_element_type", "copy") else None


def reduction(operands: Operands, shapes: Shapes, out: Shape, params: Params) -> Span:
    """The rule of every operation that takes axes away: a sum, a maximum, where the maximum is."""
    return Span(union(*operands).bounds.min(tuple(a + 1 for a in params["axes"])), summed=True)


def _dot_general(operands: Operands, shapes: Shapes, out: Shape, params: Params) -> Span:
    sides = [_side(n, operands, shapes, out, *params["dimension_numbers"]) for n in (0, 1)]
    sides = [side for side in sides if side is not None]
    if len(sides) == 2 and math.prod(np.broadcast_shapes(*(side.bounds.shape for side in sides))) > LARGEST:
        sides[1] = everything(sides[1:], len(out))
    return union(*sides)._replace(summed=any(side.summed for side in sides))


def _side(n: int, operands: Operands, shapes: Shapes, out: Shape, contracted: Shapes, batch: Shapes) -> Span | None:
    """What the product gets from operand `n`; None if that is no span."""
    if not isinstance(operands[n], Span):
        return None
    free = [a for a in range(len(shapes[n])) if a not in contracted[n] and a not in batch[n]]
    kept, others = len(batch[n]) + len(free), len(out) - len(batch[n]) - len(free)
    bounds = np.transpose(operands[n].bounds, (0, *[a + 1 for a in (*batch[n], *free, *contracted[n])]))
    pattern = None
    if others == len(contracted[n]) == 1:
        pattern = _pattern(operands[1 - n], contracted[1 - n][0], batch[1 - n])
    if pattern is None:
        bounds = bounds.min(tuple(range(1 + kept, bounds.ndim)))
        bounds = bounds.reshape(*bounds.shape, *[1] * others)
    elif bounds.shape[-1] > 1:
        new, old = pattern
        bounds = np.minimum.reduceat(bounds[..., old], np.flatnonzero(np.diff(new, prepend=-1)), axis=-1)
    if n == 1:  # the left operand's axes come first
        bounds = np.moveaxis(
            bounds, range(1 + kept, 1 + len(out)), range(1 + len(batch[n]), 1 + len(batch[n]) + others)
        )
    return Span(bounds, summed=pattern is None)


def _pattern(
    matrix: Operand, contracted: int, batch: Sequence[int]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]] | None:
    """Where a known matrix, the same for the whole batch, is not zero: (new index, old index), sorted.

    None if it is not known, or has no zeros, or a row of nothing else.
    """
    if not isinstance(matrix, np.ndarray) or any(matrix.strides[a] for a in batch if matrix.shape[a] > 1):
        return None
    first = contracted < min(a for a in range(matrix.ndim) if a not in batch and a != contracted)
    matrix = matrix[tuple(0 if a in batch else slice(None) for a in range(matrix.ndim))]
    matrix = (matrix.T if first else matrix) != 0
    return None if matrix.all() or not matrix.any(1).all() else np.nonzero(matrix)


def _conv_general_dilated(operands: Operands, shapes: Shapes, out: Shape, params: Params) -> Span:
    x, numbers = operands[0], params["dimension_numbers"]
    if isinstance(operands[1], Span) or params["batch_group_count"] != 1:
        return everything(operands, len(out))
    bounds = np.transpose(x.bounds, (0, *[a + 1 for a in numbers.lhs_spec]))  # batch, channels, rows, columns
    groups, channels = params["feature_group_count"], shapes[1][numbers.rhs_spec[0]]
    if bounds.shape[2] > 1:
        bounds = bounds.reshape(*bounds.shape[:2], groups, -1, *bounds.shape[3:]).min(3)
        bounds = bounds if groups == 1 else np.repeat(bounds, channels // groups, axis=2)
    for i, (kernel_axis, out_axis) in enumerate(zip(numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)):
        steps = [params[key][i] for key in ("window_strides", "padding", "rhs_dilation", "lhs_dilation")]
        bounds = _slide(bounds, 3 + i, shapes[1][kernel_axis], out[out_axis], *steps)
    return Span(np.transpose(bounds, (0, *[1 + a for a in np.argsort(numbers.out_spec)])))


def _reduce_window(operands: Operands, shapes: Shapes, out: Shape, params: Params) -> Span:
    bounds = operands[0].bounds
    for i, (taps, size) in enumerate(zip(params["window_dimensions"], out, strict=True)):
        steps = [params[key][i] for key in ("window_strides", "padding", "window_dilation", "base_dilation")]
        bounds = _slide(bounds, 1 + i, taps, size, *steps)
    return Span(bounds)


def _slide(
    bounds: Bounds,
    axis: int,
    taps: int,
    size: int,
    stride: int,
    padding: tuple[int, int],
    rate: int,
    spread: int,
) -> Bounds:
    """The union over every window along `axis`; padding holds nothing, nor do zeros that spread the pixels apart."""
    if bounds.shape[axis] == 1 or (taps, stride, padding, spread) == (1, 1, (0, 0), 1):
        return bounds
    starts = np.arange(size) * stride - padding[0]
    result = _take(bounds, axis, starts, spread)
    for tap in range(1, taps):
        result = np.minimum(result, _take(bounds, axis, starts + tap * rate, spread))
    return result


def _take(bounds: Bounds, axis: int, where: Int[np.ndarray, " n"], spread: int) -> Bounds:
    """The elements at the places `where` of `axis`, had it `spread` - 1 zeros between any two; nothing beyond it."""
    inside = (where >= 0) & (where % spread == 0) & (where // spread < bounds.shape[axis])
    taken = np.take(bounds, np.where(inside, where // spread, 0), axis)
    return np.where(inside.reshape(-1, *[1] * (bounds.ndim - axis - 1)), taken, np.int32(NOTHING))


def _pad(operands: Operands, shapes: Shapes, out: Shape, params: Params) -> Span:
    x, value = operands
    if not isinstance(x, Span):
        return everything([value], len(out))
    bounds = x.bounds
    for axis, (before, _, between) in enumerate(params["padding_config"], start=1):
        if bounds.shape[axis] > 1:
            bounds = _take(bounds, axis, np.arange(out[axis - 1]) - before, between + 1)
    return union(Span(bounds), *([everything([value], len(out))] if isinstance(value, Span) else []))


def _broadcast_in_dim(operands: Operands, shapes: Shapes, out: Shape, params: Params) -> Span:
    bounds = operands[0].bounds
    return Span(bounds.reshape(2, *_place(params, bounds.shape[1:], len(out))))


def _place(params: Params, shape: Shape, rank: int) -> list[int]:
    """`shape` among the axes of the result of a broadcast."""
    place = [1] * rank
    for axis, length in zip(params["broadcast_dimensions"], shape, strict=True):
        place[axis] = length
    return place


def _reshape(operands: Operands, shapes: Shapes, out: Shape, params: Params) -> Span:
    """Axis by axis: only those that merge with one that varies, or that it splits into, are written out."""
    bounds, old = operands[0].bounds, shapes[0]
    written, shape = [2], [2]
    for before, after in _factors(old, out):
        varies = any(bounds.shape[1 + axis] > 1 for axis in before)
        written += [old[axis] if varies else 1 for axis in before]
        shape += [out[axis] if varies else 1 for axis in after]
    result = np.broadcast_to(bounds, written).reshape(shape)
    for axis in range(1, result.ndim):
        first = result.take([0], axis)
        if result.shape[axis] > 1 and (result == first).all():
            result = first
    return Span(result)


def _factors(old: Shape, new: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Pairs of neighboring axes, as few as can be, of equal product: those before and those after a reshape."""
    i = j = 0
    while i < len(old) or j < len(new):
        before, after, p, q = [], [], 1, 1
        while not (before or after) or p != q:
            if i < len(old) and (p <= q or j == len(new)):
                before, p, i = [*before, i], p * old[i], i + 1
            else:
                after, q, j = [*after, j], q * new[j], j + 1
        yield before, after


def _transpose(operands: Operands, shapes: Shapes, out: Shape, params: Params) -> Span:
    return Span(np.transpose(operands[0].bounds, (0, *[a + 1 for a in params["permutation"]])))


def _rev(operands: Operands, shapes: Shapes, out: Shape, params: Params) -> Span:
    return Span(np.flip(operands[0].bounds, [a + 1 for a in params["dimensions"]]))


def _slice(operands: Operands, shapes: Shapes, out: Shape, params: Params) -> Span:
    bounds, strides = operands[0].bounds, params["strides"] or [1] * len(out)
    cuts = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    cuts = [slice(*cut) if n > 1 else slice(None) for n, cut in zip(bounds.shape[1:], cuts, strict=True)]
    return Span(bounds[(slice(None), *cuts)])


def _split(operands: Operands, shapes: Shapes, out: Shape, params: Params) -> list[Span]:
    bounds, axis, ends = operands[0].bounds, params["axis"] + 1, np.cumsum(params["sizes"])
    return (
        [Span(p) for p in np.split(bounds, ends[:-1], axis)] if bounds.shape[axis] > 1 else [Span(bounds)] * len(ends)
    )


def _concatenate(operands: Operands, shapes: Shapes, out: Shape, params: Params) -> Span:
    axis = params["dimension"]
    nothing = np.full((2, *[1] * len(out)), NOTHING, np.int32)
    parts = [x.bounds if isinstance(x, Span) else nothing for x in operands]
    first = parts[0]
    if first.shape[1 + axis] == 1 and all(np.array_equal(part, first) for part in parts):
        return Span(first)
    common = np.broadcast_shapes(*(part.shape[: 1 + axis] + part.shape[2 + axis :] for part in parts))
    sizes = [(*common[: 1 + axis], shape[axis], *common[1 + axis :]) for shape in shapes]
    return Span(np.concatenate([np.broadcast_to(*pair) for pair in zip(parts, sizes, strict=True)], 1 + axis))


# primitive -> rule(operands, their shapes, the result's shape, params); at least one operand is a span
RULES: dict[str, Callable[[Operands, Shapes, Shape, Params], Span | list[Span]]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "conv_general_dilated": _conv_general_dilated,
    "dot_general": _dot_general,
    "expand_dims": _reshape,
    "pad": _pad,
    "reduce_window_max": _reduce_window,
    "reduce_window_min": _reduce_window,
    "reduce_window_sum": _reduce_window,
    "reshape": _reshape,
    "rev": _rev,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "transpose": _transpose,
}
