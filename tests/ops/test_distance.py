"""Distances against SciPy's and against all pairs of pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.checks import UserError
from jaxseg.ops import distance
from jaxseg.ops.distance import (
    distance_transform,
    signed_distance,
    squared_distance_in_units,
    squared_distance_transform,
    two_nearest,
)

SHAPE = (3, 13, 29)

squared = jax.jit(squared_distance_transform)
signed = jax.jit(lambda mask, where: signed_distance(mask, where=where))
two = jax.jit(two_nearest)


def scipy_squared(masks):
    return np.stack([np.rint(ndimage.distance_transform_edt(mask) ** 2) for mask in masks])


def to_nearest(region):
    """Distance of every pixel to the nearest True one, over all pairs, in float64; inf if there is none."""
    pixels = np.argwhere(np.ones_like(region)).astype(float)
    if not region.any():
        return np.full(region.shape, np.inf)
    apart = pixels[:, None] - np.argwhere(region)
    return np.sqrt((apart**2).sum(-1)).min(1).reshape(region.shape)


@pytest.mark.parametrize("density", [0.02, 0.5, 0.99, 0.997])
def test_squares_are_scipys(density):
    masks = np.random.default_rng(0).random(SHAPE) < density
    masks[:, 5, 7] = False
    result = squared(masks)
    assert result.dtype == jnp.int32
    np.testing.assert_array_equal(result, scipy_squared(masks))


def test_squares_of_two_corners_of_a_long_image():
    """Offsets of hundreds of rows, well past the steps that are taken together; nearest columns that are empty."""
    masks = np.ones((1, 300, 7), bool)
    masks[0, 0, 0] = masks[0, 299, 6] = False
    np.testing.assert_array_equal(squared(masks), scipy_squared(masks))


def test_masks_of_one_kind():
    masks = np.zeros(SHAPE, bool)
    masks[1] = True
    masks[2, 3, 4] = True
    result = squared(masks)
    assert not result[0].any()
    assert (result[1] == 2**31 - 1).all()  # nothing to measure to
    assert result[2].sum() == result[2, 3, 4] == 1
    # SciPy measures to a pixel outside of the image there.
    arbitrary = ndimage.distance_transform_edt(masks[1])
    assert np.isfinite(arbitrary).all()
    assert arbitrary[0, 0] == 1


@pytest.mark.parametrize("shape", [(1, 9), (2, 2, 9, 1)])
def test_any_leading_axes_and_thin_images(shape):
    mask = np.random.default_rng(2).random(shape) < 0.7
    mask[..., 0, 0] = False
    flat = mask.reshape(-1, *shape[-2:])
    np.testing.assert_array_equal(squared_distance_transform(jnp.asarray(mask)), scipy_squared(flat).reshape(shape))


def test_batches_do_not_mix():
    masks = np.random.default_rng(1).random(SHAPE) < 0.9
    together = jax.vmap(squared_distance_transform)(jnp.asarray(masks))
    np.testing.assert_array_equal(together, squared(masks))
    for one, of_many in zip(masks, together, strict=True):
        np.testing.assert_array_equal(of_many, scipy_squared(one[None])[0])


def test_distance_is_the_root():
    masks = np.random.default_rng(3).random(SHAPE) < 0.95
    masks[2] = True
    result = jax.jit(distance_transform)(masks)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result[:2], [ndimage.distance_transform_edt(mask) for mask in masks[:2]], rtol=1e-7)
    assert np.isinf(result[2]).all()


def test_signed_distance_has_the_authors_numbers():
    """Outside d, inside -(d - 1), from SciPy's distances; no border where an image is of one kind."""
    masks = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=SHAPE), (0, 2, 2)) > 0
    masks[1], masks[2] = True, False
    result = np.asarray(signed(masks, np.ones(SHAPE, bool)))
    inside, outside = (ndimage.distance_transform_edt(x) for x in (masks[0], ~masks[0]))
    np.testing.assert_allclose(result[0], outside * ~masks[0] - (inside - 1) * masks[0], rtol=1e-6)
    assert result[0].min() < 0 < result[0].max()
    assert not result[1:].any()


def test_signed_distance_knows_nothing_of_ignored_pixels():
    """In the last image a region ends where the ignored pixels begin: only pixels of the other kind bound it."""
    rng = np.random.default_rng(5)
    masks, where = rng.random(SHAPE) < 0.5, rng.random(SHAPE) < 0.4
    where[2] = masks[2] = False
    masks[2, 0, :6] = True
    where[2, 0, :9] = [True, True, True, True, False, False, False, True, True]
    result = np.asarray(signed(masks, where))
    np.testing.assert_array_equal(result, signed(np.where(where, masks, ~masks), where))
    for phi, mask, counted in zip(result, masks, where, strict=True):
        inside, outside = to_nearest(mask & counted), to_nearest(~mask & counted)
        np.testing.assert_allclose(phi, np.where(counted, np.where(mask, 1 - outside, inside), 0), rtol=1e-6)
    assert result[2, 0, :9].tolist() == [-6, -5, -4, -3, 0, 0, 0, 4, 5]


def test_two_nearest_cells():
    rng = np.random.default_rng(6)
    ids = (3, 8, 255, 70000)
    cells = np.where(rng.random(SHAPE) < 0.03, rng.choice(ids, SHAPE), 0)
    cells[1:] = 0
    cells[1, 4, 6] = cells[1, 12, 1] = 8  # one cell, in two pieces
    cells[2, 0, 0], cells[2, 12, 28], cells[2, 2, 0] = 3, 8, 255  # far apart
    distances = [np.stack([to_nearest(image == k) for image in cells]) for k in ids]
    expected = np.sort(distances, axis=0)[:2]
    assert np.isinf(expected[1, 1]).all() and np.isfinite(expected[0, 1]).all()
    np.testing.assert_allclose(two(cells), expected, rtol=1e-6)


def test_blocks_of_columns_are_whole_images(monkeypatch):
    """Two blocks, the second not full, whose pixels are nearest to what lies in the other's rows."""
    rng = np.random.default_rng(7)
    masks, cells = rng.random(SHAPE) < 0.98, np.where(rng.random(SHAPE) < 0.02, rng.integers(1, 4, SHAPE), 0)
    expected = squared(masks), *two(cells)
    monkeypatch.setattr(distance, "_BLOCK", 1)
    found = jax.jit(lambda m, c: (squared_distance_transform(m), *two_nearest(c)))(masks, cells)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_gather_and_no_scatter():
    shape = jax.ShapeDtypeStruct(SHAPE, jnp.bool_)
    text = str(jax.make_jaxpr(lambda m: (signed_distance(m, where=m), two_nearest(m.astype(int))))(shape))
    assert "scatter" not in text and "gather[" not in text


@pytest.mark.parametrize(
    "function, array, message",
    [
        (squared_distance_transform, jnp.zeros((4, 4)), "`mask` must be booleans.*got float32"),
        (squared_distance_transform, jnp.zeros(4, bool), r"of shape \[..., h, w\]"),
        (signed_distance, jax.ShapeDtypeStruct((2, 16385), jnp.bool_), "at most 16384"),
        (two_nearest, jnp.zeros((4, 4), bool), "`cells` must be integers"),
    ],
)
def test_wrong_arrays_are_named(function, array, message):
    with pytest.raises(UserError, match=message):
        jax.eval_shape(function, array)


def test_pixels_that_are_no_squares():
    """In any unit, over many rows: SciPy's numbers to 1e-5, inf where nothing is near."""
    rng = np.random.default_rng(0)
    masks = rng.random((3, 512, 40)) > 0.001
    masks[1], masks[1, 0, 7] = True, False  # the last row is far from it
    masks[2] = True
    for spacing in ((0.8, 1.4), (5.0, 0.7)):
        found = np.asarray(jax.jit(lambda m, s=spacing: squared_distance_in_units(m, s))(masks))
        for own, mask in zip(found[:2], masks, strict=False):
            expected = ndimage.distance_transform_edt(mask, sampling=spacing) ** 2
            np.testing.assert_allclose(own, expected, rtol=1e-5)
        assert np.isinf(found[2]).all()
