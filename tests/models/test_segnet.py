"""SegNet and DeconvNet against the figures of their papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks.unpooling import PoolingEncoder, UnpoolingDecoder, mirrored, pool_down, unpool_up
from jaxseg.checks import UserError
from jaxseg.models import create_model, init
from jaxseg.models.deconvnet import bottleneck


def shapes(name, size, **options):
    """Variables, and the shape of what every module returned, by its path."""
    model = create_model(name, **options)

    def run():
        images = jnp.zeros((1, *size, 3))
        return model.init_with_output(jax.random.key(0), images, train=False, capture_intermediates=True)

    _, variables = jax.eval_shape(run)
    outputs = {}
    for path, leaf in jax.tree.leaves_with_path(variables["intermediates"]):
        outputs.setdefault("/".join(key.key for key in path if hasattr(key, "key")), leaf.shape)
    return variables["params"], {path.removesuffix("/__call__"): shape for path, shape in outputs.items()}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_segnets_parameters():
    params, outputs = shapes("segnet", (360, 480), num_classes=12)
    assert round(count(params["encoder"]) / 1e6, 1) == 14.7  # arXiv:1511.00561, section 3: 14.7 M
    up = (512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64)  # the authors' conv5_3_D to conv1_2_D
    decoder = sum(9 * a * b + 2 * b for a, b in zip((512, *up), up, strict=False))  # kernels, scales and shifts
    assert count(params["decoder"]) == decoder
    assert count(params["head"]) == (9 * 64 + 1) * 12
    assert [outputs[f"encoder/block{i}"] for i in (1, 5)] == [(1, 360, 480, 64), (1, 23, 30, 512)]
    assert [outputs[f"decoder/block{i}"] for i in (5, 1)] == [(1, 23, 30, 512), (1, 360, 480, 64)]
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 4]
    assert len(kernels) == 26  # 13 each way, the last of them the scores


def test_segnet_basics_parameters():
    params, _ = shapes("segnet_basic", (36, 48), num_classes=11)
    assert count(params) == pytest.approx(1.42e6, rel=1e-2)  # arXiv:1511.00561, table 1: 1.425 M
    assert len([leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 4]) == 9


def test_deconvnets_parameters_and_sizes():
    params, outputs = shapes("deconvnet", (224, 224), num_classes=21)
    assert round(count(params) / 1e6) == 252  # arXiv:1505.04366, under "network configuration": about 252 M
    table2 = {  # height, width and features
        "encoder/block1": (224, 224, 64),
        "encoder/block2": (112, 112, 128),
        "encoder/block3": (56, 56, 256),
        "encoder/block4": (28, 28, 512),
        "encoder/block5": (14, 14, 512),
        "decoder/bottleneck/fc6": (1, 1, 4096),
        "decoder/bottleneck/fc7": (1, 1, 4096),
        "decoder/bottleneck": (7, 7, 512),
        "decoder/deconvolution/block5": (14, 14, 512),
        "decoder/deconvolution/block4": (28, 28, 256),
        "decoder/deconvolution/block3": (56, 56, 128),
        "decoder/deconvolution/block2": (112, 112, 64),
        "decoder/deconvolution/block1": (224, 224, 64),
        "head": (224, 224, 21),
    }
    assert {path: outputs[path][1:] for path in table2} == table2


def test_the_wiring_puts_every_value_back_to_its_maximum():
    x = jnp.array([[1.0, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]]).reshape(1, 4, 4, 1)
    small, memory = pool_down(x, [lambda x: x, lambda x: -x])
    assert small.ravel().tolist() == [-5.0]
    y = unpool_up(small, memory, [lambda x: 2 * x, lambda x: x])
    expected = np.zeros((4, 4))
    expected[1, 1] = -10.0
    np.testing.assert_array_equal(y[0, :, :, 0], expected)


def test_the_bottleneck_of_a_map_smaller_than_its_kernel():
    seen = []
    y = bottleneck(jnp.ones((1, 2, 9, 1)), 7, [lambda x: seen.append(x.shape) or 2 * x])
    assert seen == [(1, 7, 9, 1)]
    assert y.shape == (1, 2, 9, 1)


def test_the_positions_of_every_pooling_reach_the_features():
    images = jax.random.normal(jax.random.key(1), (1, 16, 24, 3))
    encoder = PoolingEncoder(((4,), (6, 6), (8, 8)))
    decoder = UnpoolingDecoder(mirrored((4, 6, 8), (1, 2, 2)))
    (x, memory), _ = encoder.init_with_output(jax.random.key(0), images, train=False)
    features, variables = decoder.init_with_output(jax.random.key(2), x, memory, train=False)
    assert features.shape == (1, 16, 24, 4)
    for depth, pooled in enumerate(memory):
        turned = [*memory]
        turned[depth] = pooled._replace(positions=3 - pooled.positions)
        assert np.abs(decoder.apply(variables, x, turned, train=False) - features).max() > 1e-3


def test_lists_of_different_lengths_are_refused():
    for name in ("segnet", "deconvnet"):
        with pytest.raises(UserError, match="one entry per block"):
            init(create_model(name, num_classes=2, widths=(4, 6)), jax.random.key(0))
