"""DDRNet: its wiring, and the figures of the paper and of the authors' code."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.models import coarsest_stride, create_model, init
from jaxseg.models.ddrnet import DualResNet, chain, exchange
from tests.models.test_segnet import count, shapes

FULL = {"features": 64, "head_features": 128}


def test_each_branch_gets_what_the_other_one_had():
    fine, deep = jnp.full((1, 4, 4, 1), 2.0), jnp.full((1, 2, 2, 1), 30.0)
    new_fine, new_deep = exchange(fine, deep, down=lambda x: 100 * x[:, ::2, ::2], compress=lambda x: x / 10)
    np.testing.assert_allclose(new_fine, jnp.full((1, 4, 4, 1), 5.0))
    np.testing.assert_allclose(new_deep, jnp.full((1, 2, 2, 1), 230.0))


def test_a_chain_has_a_relu_before_each_layer_and_none_after_the_last():
    x = jnp.array([-3.0, 2.0]).reshape(1, 1, 2, 1)
    assert chain(x, [lambda x: x - 1, lambda x: x - 5]).ravel().tolist() == [-5, -4]


@pytest.mark.parametrize("options, parameters", [({}, 5_695_987), (FULL, 20_148_947)])
def test_it_has_the_authors_parameters(options, parameters):
    params, outputs = shapes("ddrnet", (1024, 2048), num_classes=19, auxiliary=False, **options)
    assert count(params) == parameters  # the paper says 5.7 M and 20.1 M
    width = options.get("features", 32)
    table = {  # the paper's figure 4 at 1024 x 2048: height, width and features
        "encoder/stage1_block1": (256, 512, width),
        "encoder/stage2_block1": (128, 256, 2 * width),
        "encoder/stage3_block1": (64, 128, 4 * width),
        "encoder/fine3_block1": (128, 256, 2 * width),
        "encoder/stage4_block1": (32, 64, 8 * width),
        "encoder/fine4_block1": (128, 256, 2 * width),
        "encoder/stage5_block0": (16, 32, 16 * width),
        "encoder/fine5_block0": (128, 256, 4 * width),
        "decoder": (16, 32, 4 * width),
        "head": (1024, 2048, 19),
    }
    assert {path: outputs[path][1:] for path in table} == table


def test_both_branches_give_features_before_their_relu():
    encoder = DualResNet(4, (1, 1, 1, 1))
    images = jax.random.normal(jax.random.key(1), (1, 64, 64, 3))
    run = jax.jit(partial(encoder.apply, train=False))
    branches = run(init(encoder, jax.random.key(0)), images)
    assert all((x < 0).any() for x in branches.values())
    shapes = {name: x.shape[1:] for name, x in branches.items()}
    assert shapes == {"fine": (8, 8, 16), "deep": (1, 1, 64), "middle": (8, 8, 8)}


def test_its_cells_are_those_of_the_deepest_features():
    assert coarsest_stride(create_model("ddrnet", num_classes=2)) == 64
    assert coarsest_stride(create_model("segnet_basic", num_classes=2)) == 32


def test_the_auxiliary_head_is_a_choice_and_stages_are_four():
    params, outputs = shapes("ddrnet", (33, 50), num_classes=2, features=4, auxiliary=False)
    assert not any("auxiliary" in name for name in (*params, *outputs))
    with pytest.raises(UserError, match="4 stages, got"):
        init(create_model("ddrnet", num_classes=2, blocks=(1, 1)), jax.random.key(0))
    assert shapes("ddrnet", (33, 50), num_classes=2, features=4)[1]["auxiliary"] == (1, 33, 50, 2)
