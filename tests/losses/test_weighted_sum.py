import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.losses import check_loss_config, cross_entropy, dice, weighted_sum

HEADS = {"logits": 1.0, "auxiliary": 0.4}


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    outputs = {head: jnp.asarray(rng.normal(size=(2, 3, 4, 3)), jnp.float32) for head in (*HEADS, "unused")}
    return outputs, jnp.asarray(rng.integers(0, 3, (2, 3, 4))), jnp.asarray(rng.random((2, 3, 4)) < 0.8)


def test_every_head_times_every_term(batch):
    outputs, labels, where = batch
    terms, options = {"cross_entropy": 0.7, "dice": 2.0}, {"cross_entropy": {"label_smoothing": 0.1}}
    total, parts = jax.jit(lambda *a: weighted_sum(*a, terms=terms, heads=HEADS, options=options))(*batch)
    expected = {}
    for head in HEADS:
        expected[f"{head}/cross_entropy"] = cross_entropy(outputs[head], labels, where=where, label_smoothing=0.1)
        expected[f"{head}/dice"] = dice(outputs[head], labels, where=where)
    assert parts.keys() == expected.keys()
    for name, part in parts.items():
        np.testing.assert_allclose(part, expected[name], rtol=1e-6)
    weights = {f"{head}/{term}": a * b for head, a in HEADS.items() for term, b in terms.items()}
    np.testing.assert_allclose(total, sum(weights[name] * expected[name] for name in weights), rtol=1e-6)
    assert total.dtype == jnp.float32
    assert total.shape == ()


def test_a_missing_head_names_the_heads_of_the_model(batch):
    with pytest.raises(UserError, match=r"'auxilary'.* Did you mean 'auxiliary'\? Known: auxiliary, logits, unused"):
        weighted_sum(*batch, terms={"dice": 1.0}, heads={"auxilary": 1.0}, options={})


def test_the_default_config_passes():
    config = default_config()
    check_loss_config(**config.loss.to_dict(), num_classes=3)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"terms": {"dise": 1.0}}, "Unknown loss 'dise'. Did you mean 'dice'"),
        ({"terms": {}}, "loss.terms is empty"),
        ({"heads": {}}, "loss.heads is empty"),
        ({"terms": {"dice": "1"}}, "loss.terms.dice must be a weight, a number >= 0, got '1'"),
        ({"heads": {"logits": -1.0}}, "loss.heads.logits must be a weight"),
        ({"heads": {"logits": float("nan")}}, "loss.heads.logits must be a weight"),
        ({"options": {"cross_entropy": {}}}, "options is given for 'cross_entropy', which loss.terms does not use"),
        ({"options": {"dice": {"smoth": 1.0}}}, "Unknown option 'smoth' of loss 'dice'. Did you mean 'smooth'"),
        ({"options": {"dice": {"where": 1.0}}}, "Unknown option 'where' of loss 'dice'"),
        ({"options": {"dice": {"smooth": 0.0}}}, "loss.options.dice can't be used: `smooth` must be positive"),
        ({"options": {"dice": {"smooth": "a"}}}, "loss.options.dice can't be used"),
        ({"options": {"dice": 3}}, "loss.options.dice must be a mapping of arguments, got 3"),
    ],
)
def test_a_config_that_cannot_run_is_refused(change, message):
    config = {"terms": {"dice": 1.0}, "heads": {"logits": 1.0}, "options": {}} | change
    with pytest.raises(UserError, match=message):
        check_loss_config(**ConfigDict(config).to_dict(), num_classes=3)


def test_class_weights_of_another_number_of_classes_are_refused():
    config = {"terms": {"cross_entropy": 1}, "heads": {"logits": 1}}
    options = {"cross_entropy": {"class_weights": [1.0, 2.0]}}
    check_loss_config(**config, options=options, num_classes=2)
    with pytest.raises(UserError, match="each of the 3 classes"):
        check_loss_config(**config, options=options, num_classes=3)


def test_a_softmax_of_one_class_is_refused():
    config = {"heads": {"logits": 1}, "options": {}}
    check_loss_config(terms={"sigmoid_dice": 1}, **config, num_classes=1)
    with pytest.raises(UserError, match=r"'dice' compares classes, and the model has one.*Use a loss of sigmoids"):
        check_loss_config(terms={"dice": 1}, **config, num_classes=1)
