"""Gaussian filtering in a few dimensions on the permutohedral lattice, built by sorting: static shapes, no hash table.

The lattice has d + 1 classes of vertices (the remainder of their coordinates by d + 1), and every point has one vertex
of each class around it. So each class is sorted by itself, and a vertex's neighbors are in the classes before and
after its own. Arrays are sized for the worst case, one vertex per point and class; loops stop after the vertices in
use.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Int

from jaxseg.checks import UserError

BITS = 10  # of a coordinate in a key; three make a word
BLOCK = 4096  # vertices of a class handled at once
NONE = 2**31 - 1  # the key of a row without a vertex


class Lattice(NamedTuple):
    """Points among the vertices around them. Rows are numbered over all classes; the last row of each is empty."""

    rows: Int[Array, "d1 n"]  # of the vertices around each point, one of each class
    weights: Float[Array, "d1 n"]  # barycentric coordinates of the points among them
    neighbors: Int[Array, "d1 2 m"]  # of each row along each of d + 1 axes, on both sides; an empty row if none
    blocks: Int[Array, ""]  # how many blocks of each class's rows hold vertices


@jax.jit
def build_lattice(features: Float[Array, "n d"]) -> Lattice:
    """Places points on the permutohedral lattice (Adams, Baek & Davis, 2010, "Fast High-Dimensional Filtering", §3).

    The cells have the size that gives `lattice_filter` a standard deviation of 1. Coordinates are kept modulo 1024
    cells, so points more than 1000 standard deviations apart may be confused. No gradient flows through it.

    Args:
      features: coordinates of the points, in standard deviations of the Gaussian.

    >>> build_lattice(jnp.zeros((3, 2))).weights.sum(0).tolist()
    [1.0, 1.0, 1.0]
    """
    if features.ndim != 2 or not features.size:
        raise UserError(f"Features must be [points, dimensions], got shape {features.shape}. Flatten the image.")
    n, d = features.shape
    cells, rank, weights = _simplex(lax.stop_gradient(features).astype(jnp.float32))
    block = min(BLOCK, n)
    size = -(-n // block) * block + 1  # rows of a class
    words = [
        _pack(cells - (rank > d - p)[:-1].astype(jnp.int32)) for p in range(d + 1)
    ]  # of each point's vertex of class p
    keys = [jnp.stack(word) for word in zip(*words, strict=True)]
    points = jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), (d + 1, n))
    *keys, points = lax.sort([*keys, points], num_keys=len(keys), dimension=1)
    differs = sum((key[:, 1:] != key[:, :-1] for key in keys), start=jnp.zeros((d + 1, n - 1), bool))
    place = jnp.pad(jnp.cumsum(differs, axis=1, dtype=jnp.int32), ((0, 0), (1, 0)))
    first = size * jnp.arange(d + 1, dtype=jnp.int32)[:, None]
    rows = jnp.zeros((d + 1) * n, jnp.int32)
    rows = rows.at[points + n * jnp.arange(d + 1)[:, None]].set(place + first, unique_indices=True)
    empty = jnp.full((d + 1) * size, NONE, jnp.int32)
    table = [empty.at[place + first].set(key) for key in keys]
    blocks = place.max() // block + 1
    return Lattice(rows.reshape(d + 1, n), weights, _find_neighbors(table, d, block, blocks), blocks)


def _simplex(features):
    """Returns, coordinates first, the points' cells, ranks in the cell and barycentric coordinates [d + 1, n]."""
    x, d = features.T, features.shape[1]
    j = jnp.arange(1, d + 1).astype(jnp.float32)[:, None]
    scaled = x * (math.sqrt(2 / 3) * (d + 1) / jnp.sqrt(j * (j + 1)))
    to_last = jnp.cumsum(scaled[::-1], axis=0)[::-1]
    raised = jnp.pad(to_last, ((0, 1), (0, 0))) - jnp.pad(j * scaled, ((1, 0), (0, 0)))  # to the plane of sum 0
    cells = jnp.round(raised / (d + 1))
    rest = raised - cells * (d + 1)
    rank = jnp.stack(
        [
            sum(((rest[i] < rest[k]) | ((rest[i] == rest[k]) & (k < i))).astype(jnp.int32) for k in range(d + 1))
            for i in range(d + 1)
        ]
    )
    cells = cells.astype(jnp.int32)
    rank = rank + cells.sum(0)[None]
    turn = (rank < 0).astype(jnp.int32) - (rank > d).astype(jnp.int32)  # back into the plane
    cells, rank = cells + turn, rank + turn * (d + 1)
    rest = (raised - (cells * (d + 1)).astype(jnp.float32)) / (d + 1)
    falling = jnp.stack([jnp.where(rank == d - p, rest, 0).sum(0) for p in range(d + 1)])
    weights = falling - jnp.roll(falling, 1, axis=0)
    return cells[:-1], rank, weights.at[0].add(1)


def _pack(cells):
    """Packs d coordinates [d, ...] into words, three in each."""
    low = cells & (2**BITS - 1)
    return [sum(low[k] << (BITS * (k - i)) for k in range(i, min(i + 3, len(low)))) for i in range(0, len(low), 3)]


def _unpack(words, d):
    return jnp.stack([(words[k // 3] >> (BITS * (k % 3))) & (2**BITS - 1) for k in range(d)])


def _find_neighbors(table, d, block, blocks):
    """Looks up, for each vertex and axis, the vertex one step on, in the class before; the step back is its inverse."""
    rows = table[0].size
    size = rows // (d + 1)
    axis, vertex = jnp.arange(d + 1)[:, None, None], jnp.arange(d + 1)[:, None]
    before = ((vertex - 1) % (d + 1) * size)[None]  # first row of the class before
    step = jnp.stack(
        [(axis == k).astype(jnp.int32) - (vertex == 0).astype(jnp.int32)[None] for k in range(d)]
    )  # [d, axes, classes, 1], in cells

    def look_up(i, neighbors):
        here = i * block + vertex * size + jnp.arange(block)[None]
        words = [word[here] for word in table]
        sought = _pack(_unpack(words, d)[:, None] + step)
        candidate = before + _lower_bound(table, sought, before, size)
        same = (words[0] != NONE)[None]
        for word, key in zip(table, sought, strict=True):
            same &= word[candidate] == key
        neighbors = neighbors.at[axis, 0, here].set(jnp.where(same, candidate, size - 1))
        return neighbors.at[axis, 1, jnp.where(same, candidate, rows)].set(here, mode="drop")

    return lax.fori_loop(0, blocks, look_up, jnp.full((d + 1, 2, rows), size - 1, jnp.int32))


def _lower_bound(table, sought, first, size):
    """Returns how many of the `size` keys after row `first` are smaller than those sought, at most size - 1."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        smaller = jnp.zeros(low.shape, bool)
        for word, key in zip(table[::-1], sought[::-1], strict=True):
            value = word[first + middle]
            smaller = (value < key) | ((value == key) & smaller)
        return jnp.where(smaller, middle + 1, low), jnp.where(smaller, high, middle)

    low = jnp.zeros(sought[0].shape, jnp.int32)
    return lax.fori_loop(0, (size - 1).bit_length(), halve, (low, low + size - 1))[0]


@jax.jit
def lattice_filter(lattice: Lattice, values: Float[Array, "n c"]) -> Float[Array, "n c"]:
    """Sums `values` over all points, weighted by about exp(-|difference of features|² / 2), the point itself included.

    Splat, blur along d + 1 axes, slice (Adams et al., 2010, §3), scaled as by Krähenbühl & Koltun's code. It is linear
    in `values`, and forward and reverse mode differentiate it for them; the gradient is the same filter, which blurs in
    the opposite order. The lattice is taken to be constant.

    Args:
      lattice: of the points.
      values: any number of channels; computed in float32.

    >>> lattice = build_lattice(jnp.array([[0.0, 0.0], [0.0, 0.0], [100.0, 0.0]]))
    >>> there = lattice_filter(lattice, jnp.array([[1.0], [0.0], [0.0]]))  # two points share a place, one is far
    >>> bool(there[0, 0] == there[1, 0]), float(there[2, 0])
    (True, 0.0)
    """
    return _filter.bind(values.astype(jnp.float32), *lattice, backwards=False)


@partial(jax.jit, static_argnames="backwards")
def _compute(values: Float[Array, "n c"], *lattice: Array, backwards: bool) -> Float[Array, "n c"]:
    """The filter, or its transpose if `backwards`."""
    lattice = Lattice(*lattice)
    classes, n = lattice.rows.shape
    size, block = lattice.neighbors.shape[-1] // classes, min(BLOCK, n)

    def splat(total, vertex):
        rows, weights = vertex
        return total.at[rows].add(weights[:, None] * values), None

    empty = jnp.zeros((classes * size, values.shape[1]))
    total, _ = lax.scan(splat, empty, (lattice.rows, lattice.weights))
    other = empty
    order = range(classes)
    for axis in reversed(order) if backwards else order:
        near = lattice.neighbors[axis].reshape(2, classes, size)
        total, other = lax.fori_loop(0, lattice.blocks, partial(_blur, total, near, block), other), total
    sliced = sum(weights[:, None] * total[rows] for rows, weights in zip(lattice.rows, lattice.weights, strict=True))
    return sliced / (1 + 2.0 ** (1 - classes))


def _blur(total, near, block, i, result):
    """Writes the i-th block of every class: its values and half of those on both sides."""
    _, classes, size = near.shape
    place = (0, i * block, 0)
    before, behind = lax.dynamic_slice(near, (0, 0, i * block), (2, classes, block))
    here = lax.dynamic_slice(total.reshape(classes, size, -1), place, (classes, block, total.shape[1]))
    blurred = here + 0.5 * (total[before] + total[behind])
    return lax.dynamic_update_slice(result.reshape(classes, size, -1), blurred, place).reshape(result.shape)


def _differentiate(
    primals: Sequence[Array], tangents: Sequence[Any], *, backwards: bool
) -> tuple[Array, Array | ad.Zero]:
    out = _filter.bind(*primals, backwards=backwards)
    if isinstance(tangents[0], ad.Zero):
        return out, ad.Zero(jax.typeof(out))
    return out, _filter.bind(tangents[0], *primals[1:], backwards=backwards)


def _transpose(gradient: Any, values: Any, *lattice: Array, backwards: bool) -> list[Any]:
    if not isinstance(gradient, ad.Zero):
        gradient = _filter.bind(gradient, *lattice, backwards=not backwards)
    return [gradient, *[None] * len(lattice)]


def _batch(operands: Sequence[Array], axes: Sequence[int | None], *, backwards: bool) -> tuple[Array, int]:
    """Values on one lattice are filtered as further channels; lattices one after the other, as their loops differ."""
    values, *lattice = operands
    if all(axis is None for axis in axes[1:]):
        values = jnp.moveaxis(values, axes[0], 1)
        out = _filter.bind(values.reshape(len(values), -1), *lattice, backwards=backwards)
        return out.reshape(values.shape), 1
    size = next(x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None)
    each = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]
    return lax.map(lambda one: _filter.bind(*one, backwards=backwards), each), 0


# A linear function whose transpose is known. `jax.custom_vjp` would refuse forward mode.
_filter = Primitive("lattice_filter")
_filter.def_impl(_compute)
_filter.def_abstract_eval(lambda values, *_, backwards: values)
mlir.register_lowering(_filter, mlir.lower_fun(_compute, multiple_results=False))
ad.primitive_jvps[_filter] = _differentiate
ad.primitive_transposes[_filter] = _transpose
batching.primitive_batchers[_filter] = _batch
