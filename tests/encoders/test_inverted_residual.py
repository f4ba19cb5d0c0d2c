"""The walk down MobileNets and EfficientNets: levels, strides, padding; and the papers' tables."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.encoders import create_encoder
from jaxseg.encoders.inverted_residual import Block, InvertedResidual, choose_padding


@cache
def shapes(name, size=(64, 64), **options):
    encoder = create_encoder(name, **options)
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    levels, variables = jax.eval_shape(lambda x: encoder.init_with_output(jax.random.key(0), x, train=False), images)
    return {key: level.shape[1:] for key, level in levels.items()}, variables["params"]


@pytest.mark.parametrize(
    "name, options, channels, parameters",
    [
        ("mobilenet_v2", {}, (16, 24, 32, 96, 1280), 3_504_872 - 1_281_000),  # torchvision's, less its classifier
        ("mobilenet_v2", {"last_conv": False}, (16, 24, 32, 96, 320), 3_504_872 - 1_281_000 - 1280 * 322),
        ("mobilenet_v3_large", {}, (16, 24, 40, 112, 960), 5_483_032 - 2_511_080),
        ("mobilenet_v3_small", {}, (16, 16, 24, 48, 576), 2_542_856 - 1_615_848),
        ("efficientnet_b0", {}, (16, 24, 40, 112, 320), 5_288_548 - 1_281_000 - 1280 * 322),
    ],
)
def test_channels_and_parameters_are_those_of_the_papers(name, options, channels, parameters):
    levels, params = shapes(name, **options)
    assert tuple(shape[-1] for shape in levels.values()) == channels
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameters


@pytest.mark.parametrize("name, depth", [("mobilenet_v2", 2), ("mobilenet_v3_small", 3), ("efficientnet_b0", 1)])
def test_depth_leaves_out_what_no_level_needs(name, depth):
    levels, params = shapes(name, depth=depth)
    assert list(levels) == ["c1", "c2", "c3"][:depth]
    _, whole = shapes(name)
    early, fewer = shapes(name, depth=depth, early_levels=("c1", "c2", "c3", "c4"))
    assert list(early) == list(levels)
    assert [shape[:2] for shape in early.values()] == [shape[:2] for shape in levels.values()]
    assert set(fewer) <= set(params) < set(whole)
    assert "last" in whole or name == "efficientnet_b0"


def test_an_early_level_is_the_first_of_its_resolution():
    levels, params = shapes("efficientnet_b0", early_levels=("c1",))
    assert [levels[key][-1] for key in ("c1", "c2")] == [32, 24]
    assert set(shapes("efficientnet_b0", depth=1, early_levels=("c1",))[1]) == {"stem"}
    assert set(shapes("efficientnet_b0", depth=1)[1]) == {"stem", "stage0_block0"} < set(params)


@pytest.mark.parametrize(
    "padding, sizes",
    [
        ("symmetric", [31, 16, 8, 4, 2]),
        ("tensorflow", [31, 16, 8, 4, 2]),
        (224, [30, 15, 7, 3, 1]),  # pads one pixel, of the even size it expects, and loses one of the odd
        (61, [31, 16, 8, 4, 2]),
    ],
)
def test_padding_for_a_image_of_a_fixed_side(padding, sizes):
    levels, _ = shapes("efficientnet_b0", (61, 61), padding=padding)
    assert [shape[0] for shape in levels.values()] == sizes


def test_an_unknown_padding_is_named():
    with pytest.raises(UserError, match="Unknown padding 'same'"):
        shapes("mobilenet_v2", padding="same")
    assert choose_padding("symmetric", (7, 7), kernel_size=3, stride=2) is None


def test_the_squeezed_average_scales_the_channels():
    """With a projection that passes everything on, what leaves the block is the gate's share of what came."""
    block = InvertedResidual(Block(1, 1, 2, 2, squeezed=1, activation=lambda x: x), gate=jax.nn.hard_sigmoid)
    x = jnp.ones((1, 3, 3, 2))
    variables = block.init(jax.random.key(0), x, train=False)
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    params["depthwise"]["conv"]["kernel"] = jnp.ones((1, 1, 1, 2))
    params["project"]["conv"]["kernel"] = jnp.eye(2)[None, None]
    for layer in ("depthwise", "project"):
        params[layer]["norm"]["scale"] = jnp.ones(2)
    params["excite"]["bias"] = jnp.array([-3.0, 1.5])  # hard sigmoid: 0 and 3/4
    y = block.apply({**variables, "params": params}, x, train=False)
    np.testing.assert_allclose(y[0, 0, 0], [1.0, 1.75], rtol=1e-4)


def test_an_encoder_of_the_family_takes_any_number_of_channels():
    encoder = create_encoder("mobilenet_v3_small")
    images = jax.ShapeDtypeStruct((1, 32, 32, 5), jnp.float32)
    variables = jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, train=False), images)
    assert variables["params"]["stem"]["conv"]["kernel"].shape == (3, 3, 5, 16)
