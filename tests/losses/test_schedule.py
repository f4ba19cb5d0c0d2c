import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.experiment.workdir import read_config
from jaxseg.losses import check_loss_config, ramp, weighted_sum

RAMP = {"start": 0.4, "end": 0.0, "begin_step": 10, "end_step": 30}


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    outputs = {head: jnp.asarray(rng.normal(size=(1, 2, 3, 3)), jnp.float32) for head in ("logits", "auxiliary")}
    return outputs, jnp.asarray(rng.integers(0, 3, (1, 2, 3))), None


def test_a_ramp_is_exact_at_its_ends_and_straight_between():
    weight = jax.jit(ramp(start=0.1, end=0.7, begin_step=10, end_step=30))
    for step, expected in ((0, 0.1), (10, 0.1), (30, 0.7), (2**30, 0.7)):
        assert weight(jnp.int32(step)) == np.float32(expected)
    np.testing.assert_allclose([weight(s) for s in (15, 20, 25)], [0.25, 0.4, 0.55], rtol=1e-6)


def test_heads_and_terms_change_over_the_steps(batch):
    """As the boundary loss's paper has it: one term's weight goes up as the other's goes down; a head fades out."""
    terms = {
        "dice": {"start": 1.0, "end": 0.01, "end_step": 20},
        "cross_entropy": lambda step: 0.05 * step.astype(jnp.float32),
    }
    heads = {"logits": 1, "auxiliary": RAMP}
    options = {"dice": {"per_image": False}}

    @jax.jit
    def both(outputs, labels, step):
        return weighted_sum(outputs, labels, None, terms=terms, heads=heads, options=options, step=step)

    for step, dice, auxiliary in ((0, 1.0, 0.4), (15, 0.2575, 0.3), (30, 0.01, 0.0)):
        total, parts = both(*batch[:2], jnp.int32(step))
        expected = 0.0
        for head, weight in (("logits", 1.0), ("auxiliary", auxiliary)):
            expected += weight * (dice * parts[f"{head}/dice"] + 0.05 * step * parts[f"{head}/cross_entropy"])
        np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_a_weight_that_changes_needs_the_step(batch):
    with pytest.raises(UserError, match=r"loss.heads.logits changes over the steps: .* step=state.step"):
        weighted_sum(*batch, terms={"dice": 1.0}, heads={"logits": RAMP}, options={})
    with pytest.raises(UserError, match="loss.terms.dice lacks 'end'"):
        weighted_sum(*batch, terms={"dice": {"start": 1.0}}, heads={"logits": 1.0}, options={}, step=0)


def test_a_config_holds_ramps_and_gives_them_back(tmp_path):
    config = default_config()
    config.loss.terms = {"cross_entropy": 1.0, "dice": {"start": 0.0, "end": 1.0, "end_step": 500}}
    config.loss.heads = {"logits": 1.0, "auxiliary": RAMP}
    check_loss_config(**config.loss.to_dict(), num_classes=3)
    (tmp_path / "config.json").write_text(config.to_json())
    assert read_config(tmp_path).loss.to_dict() == config.loss.to_dict()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"endstep": 30}, "Unknown key 'endstep' of loss.heads.logits. Did you mean 'end_step'"),
        ({"end_step": 10}, "loss.heads.logits must have whole steps, 0 <= begin_step < end_step, got 10 and 10"),
        ({"end_step": 30.5}, "whole steps"),
        ({"begin_step": -1}, "whole steps"),
        ({"end": -1.0}, "loss.heads.logits.end must be a weight, a number >= 0, got -1.0"),
        ({"end": float("inf")}, "loss.heads.logits.end must be a weight, a number >= 0, got inf"),
        ({"start": True}, "loss.heads.logits.start must be a weight"),
        ({"start": {"end": 1.0}}, "loss.heads.logits.start must be a weight"),
    ],
)
def test_a_ramp_that_cannot_run_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        check_loss_config({"dice": 1.0}, {"logits": RAMP | change}, {})
    with pytest.raises(UserError, match="loss.terms.dice lacks 'end_step'"):
        check_loss_config({"dice": {"start": 1.0, "end": 2.0}}, {"logits": 1.0}, {})
