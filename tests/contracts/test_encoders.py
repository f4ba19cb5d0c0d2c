"""Every entry of ENCODERS keeps the contract in the docstring of jaxseg.encoders."""

from functools import cache

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from jaxseg.checks import UserError
from jaxseg.encoders import ENCODERS, create_encoder
from jaxseg.pretrained.names import FAMILIES


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
        assert list(levels) == sorted(levels), f"levels are listed from fine to coarse, got {list(levels)}"
        assert set(levels) <= {"c1", "c2", "c3", "c4", "c5"}
        for key, feature in levels.items():
            stride = 1 if name == "plain_fullres" else 2 ** int(key[1])
            size = (-(-height // stride), -(-width // stride))
            assert feature.shape[:3] == (2, *size), f"{key} of images of {height} x {width}: sizes are rounded up"


@pytest.mark.parametrize("name", FIRST)
def test_output_stride_bounds_the_stride_and_keeps_the_names(name):
    usual, variables = shapes(name)
    for output_stride in {8, *create_encoder(name).output_strides[:1]}:
        levels, dilated = shapes(name, output_stride=output_stride)
        assert levels.keys() == usual.keys()
        assert dilated == variables, f"output_stride={output_stride} changes the parameters: weights would not fit"
        for key, feature in levels.items():
            stride = 1 if name == "plain_fullres" else min(2 ** int(key[1]), output_stride)
            assert feature.shape[1:3] == (64 // stride, 96 // stride), f"{key} at {output_stride=}, see replace_strides"


@pytest.mark.parametrize("name", FIRST)
def test_dtypes_and_statistics(name):
    _, variables = shapes(name)
    encoder = create_encoder(name, dtype=jnp.bfloat16)

    def apply(variables, images):
        return encoder.apply(variables, images, train=True, mutable=["batch_stats"])

    levels, updates = jax.eval_shape(apply, variables, jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32))
    dtypes = {key: feature.dtype for key, feature in levels.items()}
    assert set(dtypes.values()) == {jnp.dtype("bfloat16")}, f"`dtype` is not handed on to every layer: {dtypes}"
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}, "parameters are float32"
    assert updates.get("batch_stats") == variables.get("batch_stats")


@pytest.mark.parametrize("name", FIRST)
def test_parts_have_names_that_survive_an_edit(name):
    encoder, (_, variables) = create_encoder(name), shapes(name)
    keys = {key.key for path, _ in jax.tree.leaves_with_path(variables) for key in path}
    nameless = {key for key in keys if "_" in key and key[0].isupper()}
    assert not nameless, f"modules without a name of their own (`name=`): {nameless}"
    stem = getattr(encoder, "stem", ("stem", "conv"))
    assert (*stem, "kernel") in flatten_dict(variables["params"]), f"`stem`, the first convolution, is not {stem}"


@pytest.mark.parametrize("name", ENCODERS)
def test_fields_and_pixel_statistics(name):
    encoder = create_encoder(name)
    missing = [key for key in ("output_strides", "pixel_mean", "pixel_std") if not hasattr(encoder, key)]
    assert not missing, f"the class lacks {missing}, see the docstring of jaxseg.encoders"
    assert len(encoder.pixel_mean) == len(encoder.pixel_std) == 3
    statistics = (*encoder.pixel_mean, *encoder.pixel_std)
    assert all(1 < value < 255 for value in statistics), "pixel_mean and pixel_std are in units of a 0..255 image"
    if type(encoder) in FAMILIES:
        assert create_encoder(name, depth=3).depth == 3, "one with published weights has a field `depth`"


@pytest.mark.parametrize("name", [name for name in FIRST if family(name) in FAMILIES])
def test_depth_is_the_number_of_levels(name):
    whole, _ = shapes(name)
    levels, _ = shapes(name, depth=3)
    shallow = [key for key in whole if int(key[1]) <= 3]
    assert list(levels) == shallow, f"`depth` is the levels to compute: of 3 {shallow}, got {list(levels)}"
    assert {key: x.shape for key, x in levels.items()} == {key: whole[key].shape for key in levels}


def test_an_encoder_of_ones_own_that_lacks_attributes_is_told(monkeypatch):
    class Bare(nn.Module):
        output_stride: int = 32
        dtype: type = jnp.float32
        pixel_mean = (0.0, 0.0, 0.0)

    monkeypatch.setitem(ENCODERS, "bare", Bare)
    with pytest.raises(UserError, match="Encoder 'bare' lacks output_strides, pixel_std. Give its class"):
        create_encoder("bare")
