"""The DeepLab family: the papers' parameter counts and field of view, and dense features against strided ones."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks.aspp import ASPPSum
from jaxseg.encoders.levels import Levels
from jaxseg.models import create_model, init
from jaxseg.models.deeplab import LargeFOV
from jaxseg.models.deeplabv3 import CascadeDecoder


def sizes(model):
    """Parameters of each part."""
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    params = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)["params"]
    return {part: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) for part, tree in params.items()}


def test_large_field_of_view_has_the_published_size():
    parts = sizes(create_model("deeplabv1", num_classes=21))
    assert parts == {"encoder": 14_714_688, "decoder": (9 * 512 + 1) * 1024 + 1025 * 1024, "head": 1025 * 21}
    assert sum(parts.values()) == 20_505_429  # arXiv:1412.7062, table 2: 20.5 M


def test_v2_on_vgg16_has_four_branches_of_three_layers():
    parts = sizes(create_model("deeplabv2", "vgg16", num_classes=21, hidden=1024, dropout=0.5))
    assert sum(parts.values()) == 14_714_688 + 4 * (20_505_429 - 14_714_688) == 37_877_652  # fig. 7


def test_v2_on_resnet101_has_one_convolution_for_each_rate():
    parts = sizes(create_model("deeplabv2", "resnet101", num_classes=21))
    assert parts == {"encoder": 42_500_160, "head": 4 * (9 * 2048 * 21 + 21)}
    assert sum(parts.values()) == 44_048_532


def test_further_blocks_are_copies_of_block_4():
    parts = sizes(create_model("deeplabv3_cascade", "resnet50", num_classes=21))
    unit = 2 * 2048 * 512 + 9 * 512 * 512 + 2 * (512 + 512 + 2048)  # weights and norms, no shortcut
    assert parts["decoder"] == 3 * 3 * unit == 40_163_328


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"output_stride": 16}, (4, 6)),  # fig. 3 b: as the encoder leaves it
        ({"output_stride": 8}, (8, 12)),
        ({"output_stride": 32, "atrous": False}, (1, 1)),  # fig. 3 a: 64 x 96 at stride 256
    ],
)
def test_the_cascade_keeps_the_resolution_by_atrous_convolution(options, expected):
    model = create_model("deeplabv3_cascade", "plain", num_classes=2, encoder_options={"widths": (4,) * 5}, **options)

    def apply(x):
        variables = model.init(jax.random.key(0), x, train=False)
        return model.apply(variables, x, train=False, capture_intermediates=True)[1]["intermediates"]["decoder"]

    decoder = jax.eval_shape(apply, jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32))
    assert decoder["__call__"][0].shape[1:3] == expected


def test_rates_of_the_cascade_double_from_block_to_block():
    """Section 3.2: at output stride 16, rates 4, 8 and 16 times the multi-grid; at 8 twice as much."""
    for stride, first in ((16, 4), (8, 8)):
        model = create_model(
            "deeplabv3_cascade", "plain", num_classes=2, output_stride=stride, encoder_options={"widths": (4,) * 5}
        )

        def apply(x, model=model):
            variables = model.init(jax.random.key(0), x, train=False)
            return model.apply(variables, x, train=False)["logits"]

        jaxpr = str(jax.make_jaxpr(apply)(jnp.zeros((1, 64, 64, 3))))
        for rate in (first, 2 * first, 4 * first):
            assert f"rhs_dilation=({rate}, {rate})" in jaxpr
            assert f"rhs_dilation=({2 * rate}, {2 * rate})" in jaxpr  # the middle one of multi-grid (1, 2, 1)


def at_rate(kind, factor):
    """A module of the family that expects features `factor` times as dense."""
    return {
        "large field of view": lambda: LargeFOV(6, rate=3 * factor),
        "aspp": lambda: ASPPSum(5, rates=(2 * factor, 3 * factor)),
        "aspp with hidden layers": lambda: ASPPSum(5, rates=(2 * factor, 3 * factor), hidden=6),
        "cascade": lambda: CascadeDecoder(blocks=1),
    }[kind]()


def call(kind, factor, x):
    """What the module makes of features `x` that are `factor` times as dense as at stride 32."""
    arguments = (x,) if kind.startswith("aspp") else (Levels({"c5": x}, output_stride=32 // factor), (352, 448))
    return at_rate(kind, factor), arguments


@pytest.mark.parametrize("kind", ["large field of view", "aspp", "aspp with hidden layers", "cascade"])
def test_dense_features_subsampled_are_strided_ones(kind):
    x = jax.random.normal(jax.random.key(0), (2, 11, 14, 8))

    @jax.jit
    def both(x):
        dense, arguments = call(kind, 4, x)
        variables = dense.init(jax.random.key(1), *arguments, train=False)
        ours = dense.apply(variables, *arguments, train=False)[:, ::4, ::4]
        strided, arguments = call(kind, 1, x[:, ::4, ::4])
        return ours, strided.apply(variables, *arguments, train=False)

    ours, theirs = both(x)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(
    "encoder, encoder_options",
    [
        ("resnet18", {"dilate_first": False, "blocks": (1, 1, 1, 2)}),  # DeepLabV3, section 3.1
        ("vgg11", {"convs": (1, 1, 1, 1, 1)}),  # DeepLabV1, section 3.1
    ],
)
def test_a_whole_network_is_consistent_from_stride_32_to_16(encoder, encoder_options):
    """On encoders whose layers without their stride keep the rate that they had, and V2's sum."""
    images = jax.random.normal(jax.random.key(0), (1, 33, 49, 3))

    def features(stride, rates):
        model = create_model(
            "deeplabv2", encoder, num_classes=2, output_stride=stride, rates=rates, encoder_options=encoder_options
        )

        @jax.jit
        def apply(variables, images):
            return model.apply(variables, images, train=False, capture_intermediates=True)[1]["intermediates"]

        parts = apply(init(model, jax.random.key(1)), images)
        return {"c5": parts["encoder"]["__call__"][0]["c5"], "scores": parts["head"]["__call__"][0]}

    strided, dense = features(32, (1, 2)), features(16, (2, 4))
    assert (strided["c5"].shape[1:3], dense["c5"].shape[1:3]) == ((2, 2), (3, 4))
    for name, expected in strided.items():
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(dense[name][:, ::2, ::2], expected, atol=1e-5 * np.abs(expected).max())
