"""The image pyramid is its network at every scale, with the network's own parameters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.models import create_model, init
from jaxseg.ops.resize import resize
from jaxseg.pretrained.bundle import load_bundle, save_bundle

SIZE = (33, 49)
OPTIONS = {"num_classes": 3, "encoder_options": {"widths": (4,) * 5, "convs": 1}}
IMAGES = jax.random.normal(jax.random.key(0), (2, *SIZE, 3))
NETWORK = {"architecture": "deeplabv3plus", "architecture_options": {"features": 8, "rates": [2, 4]}}


def forward(model, variables, images, **options):
    return jax.jit(partial(model.apply, train=False, **options))(variables, images)


@pytest.fixture(scope="module")
def network():
    model = create_model("deeplabv3plus", "plain", output_stride=8, features=8, rates=(2, 4), **OPTIONS)
    return model, init(model, jax.random.key(1))


def test_merges_the_networks_scores_at_every_scale(network):
    model, variables = network
    scores = [forward(model, variables, resize(IMAGES, size))["logits"] for size in (SIZE, (16, 24))]
    scores[1] = resize(scores[1], SIZE, align_corners=True)
    for merge, expected in (("max", np.maximum(*scores)), ("mean", (scores[0] + scores[1]) / 2)):
        pyramid = create_model("image_pyramid", "plain", merge=merge, scales=(1, 0.5), **NETWORK, **OPTIONS)
        outputs = forward(pyramid, variables, IMAGES)  # the network's variables, as they are
        assert set(outputs) == {"logits", "scale1", "scale2"}
        for ours, theirs in zip((outputs[k] for k in ("logits", "scale1", "scale2")), (expected, *scores), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_attention_weighs_the_scales_and_can_be_looked_at(network):
    pyramid = create_model("image_pyramid", "plain", scales=(1, 0.75, 0.5), features=6, **NETWORK, **OPTIONS)
    variables = init(pyramid, jax.random.key(2))
    assert variables["params"].keys() - network[1]["params"].keys() == {"attention"}
    assert variables["params"]["attention"]["conv"]["kernel"].shape == (3, 3, 3 * 4, 6)
    outputs, state = forward(pyramid, variables, IMAGES, mutable=["intermediates"])
    weights = state["intermediates"]["attention"]["attention"][0]
    assert weights.shape == (2, *SIZE, 3)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
    expected = sum(outputs[f"scale{i + 1}"] * weights[..., i : i + 1] for i in range(3))
    np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5)


def test_keeps_the_networks_further_heads():
    options = {"architecture": "pspnet", "architecture_options": {"features": 8}}
    pyramid = create_model("image_pyramid", "plain", merge="max", scales=(0.5, 1), **options, **OPTIONS)
    shapes = jax.eval_shape(lambda x: pyramid.init_with_output(jax.random.key(0), x, train=False)[0], IMAGES)
    assert {name: x.shape for name, x in shapes.items()} == dict.fromkeys(
        ("logits", "auxiliary", "scale1", "scale2"), (2, *SIZE, 3)
    )


def test_a_bundle_remembers_the_network(tmp_path):
    pyramid = create_model("image_pyramid", "plain", scales=(1, 0.5), merge="mean", **NETWORK, **OPTIONS)
    save_bundle(tmp_path, pyramid, init(pyramid, jax.random.key(0)))
    assert load_bundle(tmp_path).module == pyramid


@pytest.mark.parametrize(
    "options, said",
    [
        ({"architecture": "unte"}, "Did you mean 'unet'"),
        ({"architecture": "image_pyramid"}, "Unknown architecture for an image pyramid 'image_pyramid'"),
        ({"architecture": "segnet"}, "Unknown architecture for an image pyramid 'segnet'"),
        ({"architecture_options": {"rate": 3}}, "Did you mean 'rates'"),
        ({"merge": "maximum"}, "Unknown way to merge scales"),
    ],
)
def test_mistakes_are_named(options, said):
    with pytest.raises(UserError, match=said):
        jax.eval_shape(
            lambda x: create_model("image_pyramid", "plain", **options, **OPTIONS).init(
                jax.random.key(0), x, train=False
            ),
            jnp.zeros((1, 8, 8, 3)),
        )
