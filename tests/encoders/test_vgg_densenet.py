"""What is particular to VGG and DenseNet: pooling in place of strides, and what dilation makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.encoders import create_encoder
from jaxseg.encoders.densenet import dense_block
from jaxseg.models import init


@pytest.mark.parametrize("name, options", [("vgg11", {}), ("densenet121", {"layers": (1, 1, 1, 1), "growth": 8})])
def test_dilated_features_hold_the_strided_ones(name, options):
    """Atrous consistency: dense features, subsampled, are the features at full stride, up to and at the edges."""
    images = jax.random.normal(jax.random.key(1), (1, 45, 37, 3))  # odd: windows hang over the edges
    strided, dense = (create_encoder(name, output_stride=stride, **options) for stride in (32, 4))
    variables = init(strided, jax.random.key(0), image_size=(32, 32))

    @jax.jit
    def both(variables, images):
        return [encoder.apply(variables, images, train=False) for encoder in (strided, dense)]

    expected, levels = both(variables, images)
    for i in range(1, 6):
        step = max(1, 2**i // 4)
        scale = np.abs(expected[f"c{i}"]).max()
        assert scale > 0
        assert levels[f"c{i}"].shape[1:3] == (-(-45 // min(2**i, 4)), -(-37 // min(2**i, 4)))
        subsampled = levels[f"c{i}"][:, ::step, ::step]
        np.testing.assert_allclose(subsampled / scale, expected[f"c{i}"] / scale, atol=1e-5, err_msg=f"c{i}")


def test_every_layer_of_a_dense_block_sees_all_before_it():
    def total(x):
        return x.sum(-1, keepdims=True)

    grown = dense_block(jnp.ones((1, 1, 1, 2)), [total, total, total])
    assert grown.ravel().tolist() == [1, 1, 2, 4, 8]


@pytest.mark.parametrize(
    "name, options, depth, there, absent",
    [
        ("vgg11", {}, 3, "conv4_2", "conv5_1"),
        ("vgg11", {}, 4, "conv5_2", None),
        ("densenet121", {"layers": (1, 1, 1, 1)}, 3, "transition2_norm", "transition2_conv"),
        ("densenet121", {"layers": (1, 1, 1, 1)}, 4, "transition3_norm", "transition3_conv"),
        ("densenet121", {"layers": (1, 1, 1, 1), "raw_levels": True}, 3, "block2_layer1", "transition2_norm"),
        ("densenet121", {"layers": (1, 1, 1, 1), "raw_levels": True}, 5, "norm5", None),
    ],
)
def test_depth_leaves_out_what_no_level_needs(name, options, depth, there, absent):
    encoder = create_encoder(name, depth=depth, **options)
    images = jnp.zeros((1, 32, 32, 3))
    levels, variables = jax.eval_shape(lambda: encoder.init_with_output(jax.random.key(0), images, train=False))
    assert list(levels) == ["c1", "c2", "c3", "c4", "c5"][:depth]
    assert there in variables["params"]
    assert absent not in variables["params"]


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("vgg16", 14_714_688),  # of table 2's 138 million, 124 are in the fully connected layers
        ("densenet121", 6_953_856),
        ("resnext50_32x4d", 22_979_904),  # table 1: 25.0 million with the classifier's 2,049,000
    ],
)
def test_parameters_are_the_papers(name, parameters):
    encoder = create_encoder(name)
    variables = jax.eval_shape(lambda: encoder.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
