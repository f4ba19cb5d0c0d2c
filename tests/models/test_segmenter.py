"""The seam between encoder and decoder, and parts of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.blocks.head import Head
from jaxseg.checks import UserError
from jaxseg.encoders import create_encoder
from jaxseg.models import create_model, init
from jaxseg.models.describe import describe
from jaxseg.models.parts import Architecture, AuxiliaryHead, Option
from jaxseg.models.segmenter import Segmenter
from jaxseg.variants import Variant, defaults

WIDTHS = {"widths": (4, 4, 8), "convs": 1}  # three levels: FPN goes up to the image
IMAGES = jax.random.normal(jax.random.key(0), (2, 20, 33, 3))


def test_decoding_what_was_encoded_is_the_whole_and_stopping_there_freezes_the_encoder():
    model = create_model("fpn", "plain", num_classes=3, pyramid_features=8, features=32, encoder_options=WIDTHS)
    variables = init(model, jax.random.key(1))
    weights = jax.random.normal(jax.random.key(2), (2, 20, 33, 3))

    def outputs(params, *, stop):
        both = {**variables, "params": params}
        levels = model.apply(both, IMAGES, train=False, method="encode")
        if stop:
            levels = jax.lax.stop_gradient(levels)
        return model.apply(both, levels, IMAGES.shape[1:3], train=False, method="decode")["logits"]

    @jax.jit
    def run(params):
        gradients = [jax.grad(lambda p, s=s: (outputs(p, stop=s) * weights).sum())(params) for s in (False, True)]
        return outputs(params, stop=False), model.apply(variables, IMAGES, train=False)["logits"], gradients

    apart, whole, gradients = run(variables["params"])
    np.testing.assert_allclose(apart, whole, atol=1e-5)
    largest = [{k: max(np.abs(x).max() for x in jax.tree.leaves(part)) for k, part in g.items()} for g in gradients]
    assert largest[0]["encoder"] > 0 == largest[1]["encoder"]
    assert largest[1]["decoder"] == pytest.approx(largest[0]["decoder"], rel=1e-4) != 0


class Last(nn.Module):
    """A decoder of one's own."""

    gain: float = 2.0

    @nn.compact
    def __call__(self, levels, size, *, train):
        return self.gain * levels.deepest


class Encoder(nn.Module):
    """An encoder from elsewhere, which returns a dict."""

    @nn.compact
    def __call__(self, image, *, train):
        return {"c1": jnp.tile(image[:, ::2, ::2], 4)}


def test_parts_of_ones_own_make_a_model():
    model = Segmenter(Encoder(), Last(), Head(2), auxiliary=AuxiliaryHead(2, level="c1"))
    outputs, variables = model.init_with_output(jax.random.key(0), IMAGES[..., :2], train=False)
    assert {name: x.shape for name, x in outputs.items()} == dict.fromkeys(("logits", "auxiliary"), (2, 20, 33, 2))
    assert set(variables["params"]) == {"head", "auxiliary"}
    assert model.num_classes == 2


def test_an_architecture_hands_each_option_to_its_parts():
    net = Architecture(
        Last,
        Variant(Head, kernel_size=Option("head_kernel", 3)),
        auxiliary=Variant(AuxiliaryHead, level=Option("auxiliary_level", "c1"), dropout=0.5),
        segmenter=Variant(Segmenter, dropout=Option("dropout", 0.1)),
        default_encoder="plain",
        default_output_stride=32,
    )
    assert defaults(net) == {
        "gain": 2.0,
        "head_kernel": 3,
        "auxiliary_level": "c1",
        "dropout": 0.1,
        "auxiliary": False,
        "dtype": jnp.float32,
    }
    common = {"encoder": create_encoder("plain"), "num_classes": 4, "dtype": jnp.bfloat16}
    model = net(**common, gain=3.0, head_kernel=1, auxiliary=True, auxiliary_level="c2")
    head, auxiliary = Head(4, 1, dtype=jnp.bfloat16), AuxiliaryHead(4, dropout=0.5, dtype=jnp.bfloat16, level="c2")
    assert model == Segmenter(common["encoder"], Last(3.0), head, auxiliary, dropout=0.1)
    assert net.options_of(model) == {
        "gain": 3.0, "head_kernel": 1, "auxiliary_level": "c2", "dropout": 0.1, "auxiliary": True
    }  # fmt: skip
    assert net.options_of(model.clone(head=Head(4, 1, align_corners=False))) is None
    with pytest.raises(UserError, match="Did you mean 'head_kernel'"):
        net(**common, head_kernal=1)


def test_a_model_of_other_parts_has_no_name_to_be_written_under():
    model = create_model("pspnet", "plain", num_classes=2, auxiliary=False)
    assert describe(model)["options"] == {"auxiliary": False}
    with pytest.raises(UserError, match="not in jaxseg.MODELS"):
        describe(model.clone(decoder=Last()))
