"""Attention comes out by block, as the block computed it, and is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from jaxseg import create_model
from jaxseg.analysis.attention import attention, describe
from jaxseg.blocks.attention import SCSE
from jaxseg.blocks.manet import PAB
from jaxseg.blocks.scale_attention import ScaleAttention
from jaxseg.checks import UserError
from jaxseg.cli.program import call
from jaxseg.models import init
from jaxseg.ops.max_pool import max_pool
from jaxseg.pretrained import save_bundle


class Blocks(nn.Module):
    """One of each kind."""

    @nn.compact
    def __call__(self, x, *, train):
        x = SCSE(reduction=1, name="scse")(x)
        scales = ScaleAttention(4, name="scales")([x, x, x], [x, x, x])
        return {"logits": PAB(2, name="positions")(max_pool(scales, 2))}


@pytest.fixture(scope="module")
def found():
    model, image = Blocks(), jax.random.normal(jax.random.key(1), (8, 13, 3))
    variables = init(model, jax.random.key(0), image_size=(8, 13))
    return attention(model, variables, image), jax.tree.map(np.asarray, variables["params"]), np.asarray(image)


def test_every_kind_of_block(found):
    blocks, params, image = found
    assert list(blocks) == ["positions", "scales", "scse", "scse/channel"]
    spatial = params["scse"]["spatial"]
    expected = 1 / (1 + np.exp(-(image @ spatial["kernel"][0, 0] + spatial["bias"])[..., 0]))
    np.testing.assert_allclose(blocks["scse"].maps["weight of positions"], expected, rtol=1e-5)
    assert blocks["scse"].channels is None and blocks["scse/channel"].channels.shape == (3,)
    scales = blocks["scales"].maps
    assert list(scales) == [f"weight of scale {i}" for i in (1, 2, 3)]
    np.testing.assert_allclose(sum(scales.values()), np.ones((8, 13)), rtol=1e-5)
    positions = blocks["positions"].maps
    for weights in positions.values():  # of a map of half the size; 1 where all are equal
        assert weights.shape == (4, 7) and weights.mean() == pytest.approx(1, abs=1e-4)


def test_positions_by_hand():
    weights = np.full((6, 6), 1 / 6)
    weights[1 * 3 + 1] = [0, 0, 0, 0, 0.25, 0.75]  # the middle of 2 x 3
    maps = describe(weights, (2, 3, 3)).maps
    np.testing.assert_allclose(maps["seen from the middle"], [[0, 0, 0], [0, 1.5, 4.5]])
    np.testing.assert_allclose(maps["seen from everywhere"][1, 2], (5 + 4.5) / 6)
    with pytest.raises(UserError, match="7 positions"):
        describe(np.eye(7), (2, 3, 3))


def test_command(tmp_path, capsys):
    options = {"encoder_options": {"widths": (4, 4), "convs": 1}, "decoder_channels": (4, 4), "num_classes": 2}
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(tmp_path / "street.png")

    def run(**more):
        model = create_model("unet", "plain", **options, **more)
        save_bundle(tmp_path / "bundle", model, init(model, jax.random.key(0)))
        words = [tmp_path / "bundle", tmp_path / "street.png", "--out", tmp_path / "out"]
        return call("attention", *map(str, words))

    assert run(attention="scse") == 0
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {name for name in names if "channels" in name} == {"street_channels.png"}
    assert len(names) > 2 and all(name.startswith("street_") for name in names)
    assert "blocks" in capsys.readouterr().out
    with pytest.raises(UserError, match="UNetDecoder / Plain has no attention"):
        run()


def test_reading_attention_adds_no_work():
    """The same equations, whether it is asked for or not."""
    model, image = Blocks(), jnp.ones((1, 8, 8, 3))
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    variables = {"params": variables["params"]}

    def primitives(**options):
        program = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False, **options))(variables, image)
        return [equation.primitive.name for equation in program.eqns]

    assert primitives() == primitives(mutable=["intermediates"])
