"""Coordinates and sampling against scipy, Pillow and exact cases."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jaxseg.ops import warp

IMAGE = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)


def sampled(crop, **geometry):
    geometry = {"scale": jnp.ones(2), "offset": jnp.zeros(2), **geometry}
    y, x = warp.crop_coordinates(IMAGE.shape[:2], crop, **geometry)
    return np.asarray(warp.sample_bilinear(IMAGE, y, x)), np.asarray(warp.sample_nearest(IMAGE, y, x))


def test_identity_crop_and_flips_are_exact():
    for image in sampled((7, 9)):
        np.testing.assert_array_equal(image, IMAGE)
    for image in sampled((3, 4), offset=jnp.array([2.0, 5.0])):
        np.testing.assert_array_equal(image, IMAGE[2:5, 5:9])
    for image in sampled((7, 9), flip=jnp.array([True, False]), angle=jnp.array(0.0)):
        np.testing.assert_array_equal(image, IMAGE[::-1])
    for image in sampled((4, 4), flip=jnp.array([False, True]), offset=jnp.array([1.0, 2.0])):
        np.testing.assert_array_equal(image, IMAGE[1:5, ::-1][:, 2:6])


def test_a_quarter_turn_is_counter_clockwise():
    image = sampled((7, 7), offset=jnp.array([0.0, 1.0]), angle=jnp.array(np.pi / 2))
    for turned in image:
        np.testing.assert_allclose(turned, np.rot90(IMAGE[:, 1:8]), atol=1e-3)


@pytest.mark.parametrize("scale", [2, 3])
def test_enlarging_is_pillows(scale):
    size = (7 * scale, 9 * scale)
    smooth, near = sampled(size, scale=jnp.full(2, float(scale)))
    image = Image.fromarray(IMAGE)
    np.testing.assert_allclose(smooth, np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR)), atol=1.01)
    np.testing.assert_array_equal(near, np.asarray(image.resize(size[::-1], Image.Resampling.NEAREST)))


def test_sampling_is_scipys():
    rng = np.random.default_rng(1)
    y, x = rng.uniform(-2, 9, (5, 6)).astype(np.float32), rng.uniform(-2, 11, (5, 6)).astype(np.float32)
    smooth, near = warp.sample_bilinear(IMAGE, y, x), warp.sample_nearest(IMAGE, y, x)
    for c in range(3):
        expected = ndimage.map_coordinates(IMAGE[..., c].astype(np.float32), [y, x], order=1, mode="nearest")
        np.testing.assert_allclose(smooth[..., c], expected, atol=1e-3)
        expected = ndimage.map_coordinates(IMAGE[..., c], [y, x], order=0, mode="nearest")
        np.testing.assert_array_equal(near[..., c], expected)


def test_inside_ends_half_a_pixel_beyond_the_centers():
    y = jnp.array([[-0.51, -0.5, 6.49, 6.5]])
    assert warp.inside(y, jnp.full((1, 4), 3.0), (7, 9)).tolist() == [[False, True, True, False]]
    assert warp.inside(jnp.full((1, 4), 3.0), y, (9, 7)).tolist() == [[False, True, True, False]]


def test_affine_with_displacement_is_the_composition():
    displacement = np.random.default_rng(2).normal(size=(6, 5, 2)).astype(np.float32)
    scale, offset, angle = np.array([1.5, 0.8]), np.array([1.0, -2.0]), 0.4
    y, x = warp.crop_coordinates(
        (7, 9), (6, 5), scale=jnp.array(scale), offset=jnp.array(offset), angle=jnp.array(angle),
        displacement=jnp.array(displacement), flip=jnp.array([False, True]),
    )  # fmt: skip
    i, j = 4, 1
    point = np.array([i + 0.5, j + 0.5]) + displacement[i, j] - [3, 2.5]
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    source = (rotation @ point + [3, 2.5] + offset) / scale - 0.5
    np.testing.assert_allclose([y[i, j], x[i, j]], [source[0], 8 - source[1]], rtol=1e-5)


def test_elastic_displacement_meets_the_knots_and_is_smooth():
    vectors = np.random.default_rng(3).normal(size=(3, 3, 2)).astype(np.float32)
    field = np.asarray(warp.elastic_displacement(jnp.array(vectors), (9, 13)))
    np.testing.assert_allclose(field[::4, ::6], vectors, atol=1e-5)
    np.testing.assert_allclose(warp.elastic_displacement(jnp.ones((4, 4, 2)), (8, 8)), 1.0, atol=1e-5)
    ramp = jnp.broadcast_to(jnp.arange(4.0)[:, None, None], (4, 4, 2))
    middle = np.asarray(warp.elastic_displacement(ramp, (31, 4)))[10:21, 0, 0]
    np.testing.assert_allclose(middle, np.linspace(1, 2, 11), atol=1e-5)  # cubic convolution reproduces a line
