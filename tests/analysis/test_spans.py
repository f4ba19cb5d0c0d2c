"""Spans equal what a change of every row and column of an image reaches, operation by operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from jaxseg.analysis.spans import spans
from jaxseg.ops.conv import conv2d
from jaxseg.ops.max_pool import max_pool
from jaxseg.ops.pool import adaptive_avg_pool, avg_pool, global_avg_pool
from jaxseg.ops.resize import resize
from jaxseg.ops.upsample import bed_of_nails, conv_transpose2d, max_pool_with_positions, max_unpool

SIZE = (12, 9)
CHANNELS = 4


def kernel(*shape):
    return np.random.default_rng(0).uniform(0.5, 1.5, shape).astype(np.float32)


def mixed(x):
    """Channels that see differently far: two as they are, two over 5 pixels."""
    return jnp.concatenate([x[..., :2], conv2d(x, kernel(5, 5, CHANNELS, 2), padding=2)], axis=-1)


OPERATIONS = {
    "strided": lambda x: conv2d(x, kernel(3, 3, 4, 2), stride=2, padding=1),
    "atrous": lambda x: conv2d(x, kernel(3, 3, 4, 2), dilation=3, padding=3),
    "uneven": lambda x: conv2d(x, kernel(4, 1, 4, 2), padding=((0, 1), (0, 0))),
    "depthwise": lambda x: conv2d(mixed(x), kernel(3, 3, 1, 4), padding=1, groups=4),
    "groups": lambda x: conv2d(mixed(x), kernel(3, 3, 2, 4), padding=1, groups=2),
    "pointwise": lambda x: conv2d(mixed(x), kernel(1, 1, 4, 3), stride=2),
    "channels": mixed,
    "max of 3": lambda x: max_pool(x, 3),
    "max of 2": lambda x: max_pool(x, 2, stride=1, dilation=2),
    "linen's max": lambda x: nn.max_pool(x, (3, 3), (2, 2), padding=((1, 0), (1, 0))),
    "average": lambda x: avg_pool(x),
    "bins": lambda x: adaptive_avg_pool(x, (5, 2)),
    "global": lambda x: x + global_avg_pool(x),
    "bilinear": lambda x: resize(max_pool(x, 2), SIZE),
    "corners": lambda x: resize(x, (20, 5), align_corners=True),
    "nearest": lambda x: resize(x, (17, 18), "nearest"),
    "nails": lambda x: bed_of_nails(x, 3),
    "transposed": lambda x: conv_transpose2d(x, kernel(3, 3, 2, 4), stride=2, padding=1, output_padding=1),
    "unpooled": lambda x: max_unpool(*max_pool_with_positions(x, 2), SIZE),
    "turned": lambda x: jnp.flip(x, 1)[:, 2:10:3].transpose(0, 2, 1, 3),
    "tokens": lambda x: x.reshape(x.shape[0], -1, CHANNELS)[:, 7:60].reshape(x.shape[0], 53, 1, CHANNELS),
    "split": lambda x: jnp.concatenate(jnp.split(x, 3, axis=1)[::2], axis=1),
    "softmax": lambda x: jax.nn.softmax(x / 50, axis=-1),
    "norm": lambda x: jax.nn.standardize(x, axis=-1) * lax.rsqrt(1.0 + jnp.abs(x)),
    "nothing": lambda x: jnp.ones((x.shape[0], 1, 1, 1)),
    "no rule": lambda x: jnp.cumsum(x, 1),
}
ONE_AXIS = {"nails"}  # whether a row is all zeros is not asked of the columns, nor the reverse
AT_LEAST = {"unpooled", "no rule"}  # it depends on the values; all that was given


def everything(x):
    return {name: operation(x) for name, operation in OPERATIONS.items()}


@pytest.fixture(scope="module")
def reached():
    """axis -> name -> bool[pixel, h, w, c]: whether a change of that row or column changes the element."""
    image = np.random.default_rng(1).uniform(1, 2, (1, *SIZE, CHANNELS)).astype(np.float32)
    changed = [image]
    for axis in (1, 2):
        for pixel in range(image.shape[axis]):
            other = image.copy()
            np.moveaxis(other, axis, 0)[pixel] += np.float32([7, 3, 9, 5])
            changed.append(other)
    results = jax.jit(everything)(np.concatenate(changed))
    # Equal images of one batch may differ in a last bit, as a processor may divide them otherwise.
    moved = {name: ~np.isclose(result[1:], result[:1], rtol=1e-6, atol=1e-6) for name, result in results.items()}
    return {1: {n: m[: SIZE[0]] for n, m in moved.items()}, 2: {n: m[SIZE[0] :] for n, m in moved.items()}}


@pytest.fixture(scope="module")
def found():
    image = jax.ShapeDtypeStruct((1, *SIZE, CHANNELS), jnp.float32)
    return {axis: spans(everything, image, axis=axis) for axis in (1, 2)}


def interval(moved):
    """First and last True along the first axis; 0 and -1 where there is none."""
    some, count = moved.any(0), len(moved)
    return np.where(some, moved.argmax(0), 0), np.where(some, count - 1 - moved[::-1].argmax(0), -1)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("axis", [1, 2])
def test_equal_to_what_a_change_reaches(reached, found, name, axis):
    moved, (first, last) = reached[axis][name], found[axis][name][:, 0]
    if name in ONE_AXIS:
        moved = moved.any(3 - axis, keepdims=True)
    first = np.where(last < first, 0, first)
    expected_first, expected_last = interval(moved)
    first, last = (np.broadcast_to(x, expected_first.shape) for x in (first, last))
    if name in AT_LEAST:
        some = moved.any(0)
        assert (first <= expected_first)[some].all() and (last >= expected_last)[some].all()
    else:
        np.testing.assert_array_equal(first, expected_first)
        np.testing.assert_array_equal(last, expected_last)


def test_without_averages_only_what_is_near_counts(found):
    image = jax.ShapeDtypeStruct((1, *SIZE, CHANNELS), jnp.float32)

    def function(x):
        weights = jax.nn.softmax(jnp.einsum("bhwc,bvwc->bwhv", x, x))  # attention between rows
        return OPERATIONS["global"](x), OPERATIONS["strided"](x), x + jnp.einsum("bwhv,bvwc->bhwc", weights, x)

    pixels = np.arange(SIZE[0])
    whole, near = (spans(function, image, axis=1, averages=averages) for averages in (True, False))
    assert {(x[0].max(), x[1].min()) for x in (whole[0], whole[2])} == {(0, SIZE[0] - 1)}
    for result in (near[0], near[2]):
        np.testing.assert_array_equal(result[:, 0, :, 0, 0], [pixels, pixels])
    np.testing.assert_array_equal(near[1], found[1]["strided"])
