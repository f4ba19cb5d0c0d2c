"""What the encoders share: the factory and the dilation rules; and what is particular to each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.encoders import create_encoder
from jaxseg.encoders.dilation import Stage, replace_strides


@pytest.mark.parametrize(
    "name, options, said",
    [
        ("resnet5", {}, "Did you mean 'resnet50'"),
        ("resnet18", {"multi_gird": (1, 2)}, "Did you mean 'multi_grid'"),
        ("resnet18", {"depth": 6}, "Choose 1 to 5 levels"),
        ("resnet18", {"output_stride": 12}, "Choose one of 4, 8, 16, 32"),
    ],
)
def test_a_wrong_name_or_option_names_the_right_ones(name, options, said):
    with pytest.raises(UserError, match=said):
        create_encoder(name, **options)


def test_the_two_dilation_rules():
    smp = replace_strides((1, 2, 2, 2), stem=4, output_stride=8, dilate_first=True)
    torchvision = replace_strides((1, 2, 2, 2), stem=4, output_stride=8, dilate_first=False)
    assert smp == [Stage(1, 1, 1), Stage(2, 1, 1), Stage(1, 2, 2), Stage(1, 4, 4)]
    assert torchvision == [Stage(1, 1, 1), Stage(2, 1, 1), Stage(1, 1, 2), Stage(1, 2, 4)]


def test_multi_grid_must_fit_the_last_stage():
    encoder = create_encoder("resnet18", multi_grid=(1, 2, 4))
    with pytest.raises(UserError, match="expected 2"):
        jax.eval_shape(lambda: encoder.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))


def reach(encoder, level, size=129):
    """How many pixels, along a line, the middle of `level` spans."""
    x = jnp.zeros((1, size, 1, 3))
    variables = jax.jit(lambda: encoder.init(jax.random.key(0), x, train=False))()
    # positive weights and inputs keep every ReLU open
    variables = jax.tree.map(lambda leaf: jnp.abs(leaf) + 1e-3, variables)

    def middle(x):
        feature = encoder.apply(variables, x, train=False)[level]
        return feature[0, feature.shape[1] // 2].sum()

    seen = np.flatnonzero(np.abs(jax.jit(jax.grad(middle))(x + 1.0)).sum((0, 2, 3)))
    return int(seen.max() - seen.min() + 1)


def test_dilation_sets_how_far_a_feature_sees():
    def two_convs(**options):
        return create_encoder("plain", widths=(2, 2), convs=1, **options)

    assert reach(two_convs(downsample=False), "c2") == 5  # two 3x3 convolutions
    assert reach(two_convs(output_stride=1), "c2") == 1 + 2 * 2 + 2 * 4  # rates 2 and 4


def test_absent_levels():
    images = jnp.zeros((1, 32, 32, 3))
    for encoder, expected in (
        (create_encoder("plain", widths=(4, 4)), {"c1", "c2"}),
        (create_encoder("resnet18", depth=3), {"c1", "c2", "c3"}),
        (create_encoder("efficientnet_lite0", depth=4), {"c1", "c2", "c3", "c4"}),
    ):
        levels, variables = jax.eval_shape(lambda e=encoder: e.init_with_output(jax.random.key(0), images, train=False))
        assert set(levels) == expected
        assert "stage4_block0" not in variables["params"] or "c4" in expected


def test_drop_path_skips_blocks_in_training_alone():
    encoder = create_encoder("efficientnet_lite0", depth=2, drop_path=0.9)
    images = jax.random.normal(jax.random.key(1), (1, 16, 16, 3))
    variables = jax.jit(lambda: encoder.init(jax.random.key(0), images, train=False))()

    @jax.jit
    def c2(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return encoder.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)[0]["c2"]

    results = np.stack([c2(seed) for seed in range(12)])
    assert 1 < len(np.unique(results.sum((1, 2, 3, 4)))) <= 2  # one block of stage 1 can be skipped
