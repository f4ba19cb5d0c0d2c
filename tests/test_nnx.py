"""Models as NNX modules: to the bit what linen makes of the same variables, in evaluation, training and an update."""

import chex
import jax
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import jaxseg
from jaxseg.checks import UserError
from jaxseg.losses import cross_entropy
from jaxseg.nnx import Segmenter, create

SMALL = dict(encoder_options={"widths": (4, 6), "convs": 1}, decoder_channels=(6, 4))


@pytest.fixture(scope="module")
def linen():
    model = jaxseg.create_model("unet", "plain", num_classes=3, **SMALL)
    return model, jaxseg.init(model, jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    return images, jax.random.randint(jax.random.key(2), (2, 16, 16), 0, 3)


def test_the_outputs_and_the_statistics_are_linens(linen, batch):
    model, variables = linen
    module = Segmenter(model, variables)
    chex.assert_trees_all_equal(module.variables, variables)
    expected, updates = model.apply(variables, batch[0], train=True, mutable=["batch_stats"])
    chex.assert_trees_all_equal(module(batch[0]), expected)
    changed = {**variables, **updates}
    chex.assert_trees_all_equal(module.variables, changed)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(changed, dict(variables))
    module.eval()
    chex.assert_trees_all_equal(module(batch[0]), model.apply(changed, batch[0], train=False))
    chex.assert_trees_all_equal(module.variables, changed)
    module.train()
    module(batch[0], train=False)
    chex.assert_trees_all_equal(module.variables, changed)
    module(batch[0])
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(module.variables, changed)


def test_an_update_is_that_of_linen(linen, batch):
    model, variables = linen
    images, labels = batch
    tx = optax.adamw(1e-2)

    def loss(params):
        outputs, updates = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return cross_entropy(outputs["logits"], labels), updates

    @jax.jit
    def linen_step(params):
        gradients, updates = jax.grad(loss, has_aux=True)(params)
        changes, _ = tx.update(gradients, tx.init(params), params)
        return {"params": optax.apply_updates(params, changes), **updates}

    @nnx.jit
    def nnx_step(module, optimizer):
        gradients = nnx.grad(lambda module: cross_entropy(module(images)["logits"], labels))(module)
        optimizer.update(module, gradients)

    module = Segmenter(model, variables)
    nnx_step(module, nnx.Optimizer(module, tx, wrt=nnx.Param))
    expected = linen_step(variables["params"])
    chex.assert_trees_all_close(module.variables, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(jax.tree.leaves(expected["params"])[0] - jax.tree.leaves(variables["params"])[0]).max() > 1e-3


def test_a_created_module_is_the_linen_model_of_its_key():
    rngs = nnx.Rngs(params=3, dropout=4)
    module = create("unet", "plain", num_classes=3, rngs=rngs, **SMALL)
    model = jaxseg.create_model("unet", "plain", num_classes=3, **SMALL)
    chex.assert_trees_all_equal(module.variables, jaxseg.init(model, nnx.Rngs(params=3).params()))


def test_dropout_draws_anew_in_training_alone():
    module = create(
        "fpn", "plain", num_classes=3, rngs=nnx.Rngs(0), encoder_options={"widths": (4, 4, 4, 4, 4), "convs": 1}
    )
    x = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    assert (module(x)["logits"] != module(x)["logits"]).any()
    module.eval()
    chex.assert_trees_all_equal(module(x), module(x))


def test_what_are_no_variables_is_refused(linen):
    with pytest.raises(UserError, match=r"nnx.Rngs\(0\)"):
        create("unet", "plain", num_classes=3, rngs=nnx.Rngs(dropout=0), **SMALL)
    with pytest.raises(UserError, match="variables of a linen model"):
        Segmenter(linen[0], linen[1]["params"])


def test_variables_of_another_model_are_refused_with_the_first_that_differs(linen):
    model, variables = linen
    other = jaxseg.create_model("unet", "plain", num_classes=5, **SMALL)
    with pytest.raises(UserError, match=r"in 2 arrays; the first is 'params/head/conv/bias': expected .5,., got .3,."):
        Segmenter(other, variables)
    wider = jaxseg.create_model("unet", "plain", num_classes=3, **{**SMALL, "decoder_channels": (6, 5)})
    with pytest.raises(UserError, match="'batch_stats/decoder/block1/conv1/norm/mean': expected .5,., got .4,."):
        Segmenter(wider, variables)
    with pytest.raises(UserError, match=r"expected none, got|expected .*, got none"):
        Segmenter(
            jaxseg.create_model("linknet", "plain", num_classes=3, encoder_options=SMALL["encoder_options"]), variables
        )
    for channels in (1, 5):  # of images: whatever the variables are for, where the model takes any number
        Segmenter(model, jaxseg.init(model, jax.random.key(0), in_channels=channels))
    rgb = jaxseg.create_model("unet", "plain", num_classes=3, in_channels=3, **SMALL)
    with pytest.raises(UserError, match="encoder/level1_conv1/conv/kernel"):
        Segmenter(rgb, jaxseg.init(model, jax.random.key(0), in_channels=1))


def test_any_linen_module_of_the_contract_will_do():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            counter = self.variable("counters", "calls", lambda: jax.numpy.zeros((), int))
            return {"logits": nn.Conv(2, (1, 1))(images) + counter.value}

    variables = Own().init(jax.random.key(0), jax.numpy.ones((1, 4, 4, 7)), train=False)
    assert Segmenter(Own(), variables)(jax.numpy.ones((1, 4, 4, 7)), train=False)["logits"].shape == (1, 4, 4, 2)


@pytest.mark.parametrize("what", ["nnx", "linen", "variables"])
def test_a_predictor_says_in_a_sentence_how_to_come_by_a_trained_model(linen, what):
    model, variables = linen
    given = {"nnx": Segmenter(model, variables), "linen": model, "variables": variables}[what]
    said = {
        "nnx": r"a module of NNX .Segmenter.*save_bundle.FOLDER, linen_model, module.variables, classes=NAMES",
        "linen": r"a model without its variables .Segmenter.*save_bundle.FOLDER, model, variables",
        "variables": r"got a dict. Load it first: jaxseg.load.PATH.",
    }[what]
    with pytest.raises(UserError, match=f"^Expected a trained model, .*{said}") as caught:
        jaxseg.Predictor(given)
    assert len(str(caught.value)) < 250
