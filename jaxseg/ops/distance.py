"""Exact Euclidean distance transforms, on the device: of masks, to borders, and to the two nearest cells."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Num

from jaxseg.checks import UserError
from jaxseg.ops.varying import vary_like

_FAR = 2**15 - 1  # pixels, where a row has nothing near; squared, it is beyond any distance in an image
_LONGEST = 2**14  # pixels: the squared diagonal of a larger image would be beyond _FAR²
_NOTHING = 2**31 - 1  # the largest int32
_BLOCK = 2**18  # pixels: stay in a CPU's cache while they are stepped over


def squared_distance_transform(mask: Bool[ArrayLike, "... h w"]) -> Int[Array, "... h w"]:
    """Squared distance, in pixels², of every True pixel to the nearest False one; 0 at the False ones. Exact.

    Along rows by two running maxima (Rosenfeld & Pfaltz, 1966), then along columns by erosion with a parabola, taken
    apart into steps of one pixel that cost 1, 3, 5, … (Lotufo & Zampirolli, 2001): a step that changes nothing ends it,
    so the time grows with the longest distance that there is. The integers are those of SciPy's
    `distance_transform_edt`, squared. If a mask has no False pixel, every pixel is 2^31 - 1.

    Args:
      mask: images of at most 16384 x 16384 pixels. Pixels beyond the edge are neither True nor False.

    >>> squared_distance_transform(jnp.array([[False, True, True], [True, True, True]])).tolist()
    [[0, 1, 4], [1, 2, 5]]
    """
    _check(mask, "mask", jnp.bool_)
    along_rows = distance_along(~mask, -1)

    def step(squared: Int[ArrayLike, "... h w"], cost: Int[ArrayLike, ""]) -> Int[Array, "... h w"]:
        return jnp.minimum(squared, jnp.minimum(*_rows_beside(squared, _FAR**2)) + cost)

    squared = _until_stable(step, along_rows * along_rows)
    return jnp.where(squared < _FAR**2, squared, _NOTHING)


def distance_transform(mask: Bool[ArrayLike, "... h w"]) -> Float[Array, "... h w"]:
    """Distance, in pixels, of every True pixel to the nearest False one; 0 at the False ones. Float32.

    The square root of `squared_distance_transform`. If a mask has no False pixel, every pixel is inf, unlike SciPy's
    `distance_transform_edt`.

    Args:
      mask: images of at most 16384 x 16384 pixels. Pixels beyond the edge are neither True nor False.

    >>> distance_transform(jnp.array([[False, True, True, True]])).tolist()
    [[0.0, 1.0, 2.0, 3.0]]
    """
    return _root(squared_distance_transform(mask))


def squared_distance_in_units(
    mask: Bool[ArrayLike, "... h w"], spacing: tuple[float, float]
) -> Float[Array, "... h w"]:
    """Squared distance of every True pixel to the nearest False one, where pixels are no squares; 0 at the False ones.

    As `squared_distance_transform`, in float32: in heights of a pixel, in which the steps are whole numbers. Over 512
    rows it is within 1e-5, in proportion, of the square of SciPy's `distance_transform_edt(mask, sampling=spacing)`.
    If a mask has no False pixel, every pixel is inf.

    Args:
      mask: images of at most 16384 x 16384 pixels. Pixels beyond the edge are neither True nor False.
      spacing: height and width of a pixel, in any unit, such as millimeters.

    >>> squared_distance_in_units(jnp.array([[False, True, True], [True, True, True]]), (2.0, 3.0)).tolist()
    [[0.0, 9.0, 36.0], [4.0, 13.0, 40.0]]
    """
    _check(mask, "mask", jnp.bool_)
    height, width = map(float, spacing)
    along_rows = distance_along(~mask, -1)
    squared = jnp.where(along_rows < _FAR, jnp.square(along_rows.astype(jnp.float32) * (width / height)), jnp.inf)

    def step(squared: Float[ArrayLike, "... h w"], cost: Int[ArrayLike, ""]) -> Float[Array, "... h w"]:
        return jnp.minimum(squared, jnp.minimum(*_rows_beside(squared, jnp.inf)) + cost.astype(jnp.float32))

    return _until_stable(step, squared) * height**2


def distance_along(seeds: Bool[ArrayLike, "..."], axis: int) -> Int[Array, "..."]:
    """Distance, in pixels, to the nearest True pixel before or after along one axis; 32767 if there is none.

    >>> distance_along(jnp.array([False, True, False, False]), 0).tolist()
    [1, 0, 1, 2]
    """
    axis %= seeds.ndim
    index = lax.broadcasted_iota(jnp.int32, seeds.shape, axis)
    before = lax.cummax(jnp.where(seeds, index, -_FAR), axis)
    after = lax.cummin(jnp.where(seeds, index, 2 * _FAR), axis, reverse=True)
    return jnp.minimum(jnp.minimum(index - before, after - index), _FAR)


def signed_distance(
    mask: Bool[ArrayLike, "... h w"], *, where: Bool[ArrayLike, "... h w"] | None = None
) -> Float[Array, "... h w"]:
    """Distance to the border of the True region: positive outside, 0 on its outermost pixels, negative inside. Pixels.

    The level set of the boundary loss (Kervadec et al., 2019, arXiv:1812.07032, eq. 4) with the numbers of its authors'
    code: outside, the distance to the nearest True pixel; inside, 1 minus the distance to the nearest False one. With
    no True pixel, or no False one, there is no border: 0 everywhere.

    Args:
      mask: the region, in images of at most 16384 x 16384 pixels.
      where: valid pixels (None means all). The others belong neither to the region nor to its outside, so they
        create no border; distances are measured across them, and are 0 on them.

    >>> signed_distance(jnp.array([[False, False, True, True, True]])).tolist()
    [[2.0, 1.0, 0.0, -1.0, -2.0]]
    >>> signed_distance(jnp.array([[False, True, True]]), where=jnp.array([[True, False, True]])).tolist()
    [[2.0, 0.0, -1.0]]
    """
    across = _root(squared_distance_across(mask, where=where))
    return jnp.where(mask, jnp.minimum(1.0 - across, 0.0), across)


def squared_distance_across(
    mask: Bool[ArrayLike, "... h w"], *, where: Bool[ArrayLike, "... h w"] | None = None
) -> Int[Array, "... h w"]:
    """Squared distance, in pixels², of every pixel to the nearest one of the other kind; 0 if there is none.

    Args:
      mask: True is one kind, False the other, in images of at most 16384 x 16384 pixels.
      where: valid pixels (None means all). The others are of neither kind; distances are measured across them,
        and are 0 on them.

    >>> squared_distance_across(jnp.array([[False, False, True, True, True]])).tolist()
    [[4, 1, 1, 4, 9]]
    """
    _check(mask, "mask", jnp.bool_)
    kinds = jnp.stack([mask, ~mask])
    if where is not None:
        kinds &= jnp.broadcast_to(where, mask.shape)[None]
    to_true, to_false = lax.map(squared_distance_transform, ~kinds)  # apart: the nearer ones are done sooner
    counted = kinds.any(0) & kinds.any((-2, -1), keepdims=True).all(0)
    return jnp.where(counted, jnp.where(mask, to_false, to_true), 0)


def two_nearest(cells: Int[ArrayLike, "... h w"]) -> tuple[Float[Array, "... h w"], Float[Array, "... h w"]]:
    """Distances, in pixels, of every pixel to the nearest cell and to the second nearest one. Exact.

    A pixel inside a cell is at distance 0 of it. In an image with one cell the second distance is inf; without
    cells both are. Computed like `squared_distance_transform`, with the two nearest cells at each pixel, so the time
    does not depend on the number of cells, and ids may be any numbers > 0.

    Args:
      cells: 0 for no cell, else the cell's id, > 0; images of at most 16384 x 16384 pixels.

    >>> nearest, second = two_nearest(jnp.array([[7, 0, 0, 0, 2]]))
    >>> nearest.tolist(), second.tolist()
    ([[0.0, 1.0, 2.0, 1.0, 0.0]], [[4.0, 3.0, 2.0, 3.0, 4.0]])
    """
    _check(cells, "cells", jnp.integer)
    best = _two_along_rows(cells.astype(jnp.int32))
    squares = tuple(x * x if i % 2 == 0 else x for i, x in enumerate(best))

    def step(best: tuple, cost: Int[ArrayLike, ""]) -> tuple:
        beside = [_rows_beside(x, fill) for x, fill in zip(best, (_FAR**2, 0) * 2, strict=True)]
        for near, near_id, far, far_id in zip(*beside, strict=True):
            best = _with_cell(_with_cell(best, near + cost, near_id), far + cost, far_id)
        return best

    nearest, _, second, _ = _until_stable(step, squares)
    return tuple(_root(jnp.where(x < _FAR**2, x, _NOTHING)) for x in (nearest, second))


def _root(squared: Int[ArrayLike, "... h w"]) -> Float[Array, "... h w"]:
    return jnp.where(squared == _NOTHING, jnp.inf, jnp.sqrt(squared.astype(jnp.float32)))


def _two_along_rows(cells: Int[ArrayLike, "... h w"]) -> tuple:
    """(distance, id, distance, id) of the two nearest cells in each pixel's row; (_FAR, 0) for none."""
    columns = jnp.moveaxis(cells, -1, 0)

    def walk(best: tuple, ids: Int[ArrayLike, "... h"]) -> tuple[tuple, tuple]:
        near, near_id, far, far_id = best
        best = jnp.minimum(near + 1, _FAR), near_id, jnp.minimum(far + 1, _FAR), far_id
        best = _with_cell(best, jnp.where(ids > 0, 0, _FAR), ids)
        return best, best

    none = jnp.full_like(columns[0], _FAR), jnp.zeros_like(columns[0])
    forward, backward = (lax.scan(walk, none * 2, columns, reverse=reverse)[1] for reverse in (False, True))
    best = _with_cell(_with_cell(forward, *backward[:2]), *backward[2:])
    return tuple(jnp.moveaxis(x, 0, -1) for x in best)


def _with_cell(best: tuple, distance: Int[ArrayLike, "..."], cell: Int[ArrayLike, "..."]) -> tuple:
    """The two nearest different cells of three: `best`, which is (distance, id, distance, id), and another one."""
    near, near_id, far, far_id = best
    first = distance < near
    pushed = first & (cell != near_id)  # the nearest becomes the second nearest
    second = ~first & (cell != near_id) & (distance < far)
    far, far_id = (
        jnp.where(pushed, old, jnp.where(second, new, kept))
        for old, new, kept in ((near, distance, far), (near_id, cell, far_id))
    )
    return jnp.where(first, distance, near), jnp.where(first, cell, near_id), far, far_id


def _rows_beside(x: Num[ArrayLike, "... h w"], fill: float) -> tuple[Num[Array, "... h w"], Num[Array, "... h w"]]:
    """The row above and the row below each row; `fill` beyond the edge."""
    padding = [(0, 0, 0)] * x.ndim
    shifted = []
    for by in (1, -1):
        padding[-2] = (by, -by, 0)
        shifted.append(lax.pad(x, jnp.asarray(fill, x.dtype), padding))
    return tuple(shifted)


def _until_stable(step: Callable, state: Any) -> Any:
    """Applies `step(state, cost)` with costs 1, 3, 5, … until it changes nothing, to a block of columns at a time."""
    *_, width = shape = jax.tree.leaves(state)[0].shape
    block = max(_BLOCK // max(math.prod(shape[:-1]), 1), 16)
    if width <= block:
        return _walk(step, state)
    blocks = -(-width // block)

    def split(x: Num[ArrayLike, "... h w"]) -> Num[Array, "n ... h m"]:
        x = lax.pad(x, jnp.asarray(0, x.dtype), [(0, 0, 0)] * (x.ndim - 1) + [(0, blocks * block - width, 0)])
        return jnp.moveaxis(x.reshape(*shape[:-1], blocks, block), -2, 0)

    def join(x: Num[ArrayLike, "n ... h m"]) -> Num[Array, "... h w"]:
        return jnp.moveaxis(x, 0, -2).reshape(*shape[:-1], -1)[..., :width]

    return jax.tree.map(join, lax.map(lambda part: _walk(step, part), jax.tree.map(split, state)))


def _walk(step: Callable, state: Any) -> Any:
    together = 8  # steps between two looks at whether anything has changed

    def walk(carry: tuple) -> tuple:
        before, cost, _ = carry
        after = lax.fori_loop(0, together, lambda i, x: step(x, cost + 2 * i), before)
        changed = jax.tree.map(lambda a, b: (a != b).any(), after, before)
        return after, cost + 2 * together, jnp.stack(jax.tree.leaves(changed)).any()

    return lax.while_loop(
        lambda carry: carry[2], walk, (state, jnp.int32(1), vary_like(True, *jax.tree.leaves(state)))
    )[0]


def _check(array: Array, name: str, kind: type) -> None:
    if not jnp.issubdtype(array.dtype, kind) or array.ndim < 2 or max(array.shape[-2:]) > _LONGEST:
        wanted = "booleans" if kind is jnp.bool_ else "integers"
        raise UserError(
            f"`{name}` must be {wanted} of shape [..., h, w], h and w at most {_LONGEST}, got {array.dtype} of shape"
            f" {array.shape}."
        )
