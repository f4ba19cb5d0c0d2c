"""Every entry of ENCODERS keeps the contract in the docstring of jaxseg.encoders."""

from functools import cache

import jax
import jax.numpy as jnp
import pytest

from jaxseg.encoders import ENCODERS, create_encoder


@cache
def shapes(name, *, height=64, width=96, channels=3, **options):
    """Shapes of the levels and of the variables, without computing anything."""
    encoder = create_encoder(name, **options)
    images = jax.ShapeDtypeStruct((2, height, width, channels), jnp.float32)
    return jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x, train=False), images)


def family(name):
    return getattr(ENCODERS[name], "make", ENCODERS[name])


# One of each class, the first; of a bigger one only what its own numbers could spoil is tested, in one trace.
FIRST = list({family(name): name for name in reversed(ENCODERS)}.values())
ODD = {"height": 37, "width": 1, "channels": 4}


@pytest.mark.parametrize("name", ENCODERS)
def test_levels_are_named_and_sized_as_promised(name):
    for height, width, channels in ((64, 96, 3), tuple(ODD.values()))[name not in FIRST :]:
        levels, _ = shapes(name, height=height, width=width, channels=channels)
        assert list(levels) == sorted(levels)
        assert set(levels) <= {"c1", "c2", "c3", "c4", "c5"}
        for key, feature in levels.items():
            stride = 1 if name == "plain_fullres" else 2 ** int(key[1])
            assert feature.shape[:3] == (2, -(-height // stride), -(-width // stride)), key


@pytest.mark.parametrize("name", FIRST)
def test_output_stride_bounds_the_stride_and_keeps_the_names(name):
    usual, variables = shapes(name)
    for output_stride in {8, *create_encoder(name).output_strides[:1]}:
        levels, dilated = shapes(name, output_stride=output_stride)
        assert levels.keys() == usual.keys()
        assert dilated == variables  # dilation needs no other parameters
        for key, feature in levels.items():
            stride = 1 if name == "plain_fullres" else min(2 ** int(key[1]), output_stride)
            assert feature.shape[1:3] == (64 // stride, 96 // stride)


@pytest.mark.parametrize("name", FIRST)
def test_dtypes_and_statistics(name):
    _, variables = shapes(name)
    encoder = create_encoder(name, dtype=jnp.bfloat16)

    def apply(variables, images):
        return encoder.apply(variables, images, train=True, mutable=["batch_stats"])

    levels, updates = jax.eval_shape(apply, variables, jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32))
    assert {feature.dtype for feature in levels.values()} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert updates.get("batch_stats") == variables.get("batch_stats")


@pytest.mark.parametrize("name", ENCODERS)
def test_pixel_statistics_are_in_units_of_a_image(name):
    encoder = create_encoder(name)
    assert len(encoder.pixel_mean) == len(encoder.pixel_std) == 3
    assert all(1 < value < 255 for value in (*encoder.pixel_mean, *encoder.pixel_std))
