"""Distances against SciPy's and against all pairs of pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.checks import UserError
from jaxseg.ops.distance import distance_transform, signed_distance, squared_distance_transform, two_nearest

SHAPE = (3, 13, 29)

squared = jax.jit(squared_distance_transform)
signed = jax.jit(signed_distance)
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


def test_squares_of_two_corners_of_a_long_picture():
    """Offsets of hundreds of rows, well past the steps that are taken together; nearest columns that are empty."""
    masks = np.ones((1, 300, 7), bool)
    masks[0, 0, 0] = masks[0, 299, 6] = False
    np.testing.assert_array_equal(squared(masks), scipy_squared(masks))
    np.testing.assert_array_equal(squared(masks.mT), scipy_squared(masks.mT))


def test_masks_of_one_kind():
    masks = np.zeros(SHAPE, bool)
    masks[1] = True
    masks[2, 3, 4] = True
    result = squared(masks)
    assert not result[0].any()
    assert (result[1] == 2**31 - 1).all()  # nothing to measure to
    assert result[2].sum() == result[2, 3, 4] == 1
    assert np.isinf(distance_transform(masks)[1]).all()
    # SciPy measures to a pixel outside of the picture there.
    arbitrary = ndimage.distance_transform_edt(masks[1])
    assert np.isfinite(arbitrary).all()
    assert arbitrary[0, 0] == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2, 3, 4)])
def test_any_leading_axes_and_thin_pictures(shape):
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
    expected = np.stack([ndimage.distance_transform_edt(mask) for mask in masks])
    result = distance_transform(masks)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-7)


def test_signed_distance_has_the_authors_numbers():
    """Outside d, inside -(d - 1), from SciPy's distances; no border where a picture is of one kind."""
    masks = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=SHAPE), (0, 2, 2)) > 0
    masks[1], masks[2] = True, False
    result = np.asarray(signed(masks))
    inside, outside = (ndimage.distance_transform_edt(x) for x in (masks[0], ~masks[0]))
    np.testing.assert_allclose(result[0], outside * ~masks[0] - (inside - 1) * masks[0], rtol=1e-6)
    assert result[0].min() < 0 < result[0].max()
    assert not result[1:].any()


def test_signed_distance_knows_nothing_of_ignored_pixels():
    rng = np.random.default_rng(5)
    masks, where = rng.random(SHAPE) < 0.5, rng.random(SHAPE) < 0.4
    where[2] = masks[2] = False
    where[2, :, 3:5] = masks[2, :, 3] = True
    result = np.asarray(jax.jit(signed_distance)(masks, where=where))
    again = jax.jit(signed_distance)(np.where(where, masks, ~masks), where=where)
    np.testing.assert_array_equal(result, again)
    for phi, mask, counted in zip(result, masks, where, strict=True):
        inside, outside = to_nearest(mask & counted), to_nearest(~mask & counted)
        np.testing.assert_allclose(phi, np.where(counted, np.where(mask, 1 - outside, inside), 0), rtol=1e-6)


def test_an_ignored_frame_is_no_border():
    """A region that ends where the ignored pixels begin: only the pixels of the other kind bound it."""
    mask = np.zeros((1, 9), bool)
    mask[0, :6] = True
    where = np.array([[True, True, True, True, False, False, False, True, True]])
    assert signed(mask, where=where).tolist() == [[-6, -5, -4, -3, 0, 0, 0, 4, 5]]


def test_two_nearest_cells():
    rng = np.random.default_rng(6)
    cells = np.where(rng.random(SHAPE) < 0.03, rng.choice([3, 8, 255, 70000], SHAPE), 0)
    cells[1] = np.where(cells[1] == 8, 8, 0)  # one cell
    cells[2] = 0
    distances = [np.stack([to_nearest(picture == k) for picture in cells]) for k in (3, 8, 255, 70000)]
    expected = np.sort(distances, axis=0)[:2]
    assert np.isinf(expected[1, 1]).all() and np.isfinite(expected[0, 1]).all()
    np.testing.assert_allclose(two(cells), expected, rtol=1e-6)


def test_two_nearest_cells_far_apart():
    cells = np.zeros((1, 90, 90), np.int32)
    cells[0, 0, 0], cells[0, 89, 89], cells[0, 2, 0] = 1, 2, 3
    distances = np.sort([to_nearest(cells[0] == k) for k in (1, 2, 3)], axis=0)
    np.testing.assert_allclose(two(cells), distances[:2, None], rtol=1e-6)


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
