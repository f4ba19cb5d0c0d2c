"""U-Net++: deep supervision, and pruned nets that are those very heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxseg.checks import UserError
from jaxseg.models import create_model, init

TINY = {"encoder_options": {"widths": (4, 4, 4, 4, 4), "convs": 1}, "decoder_channels": (4, 4, 4, 4, 4)}
IMAGES = jax.random.normal(jax.random.key(1), (1, 33, 48, 3))


def make(**options):
    return create_model("unetplusplus", "plain", num_classes=2, **TINY, **options)


def apply(model, variables):
    compiled = jax.jit(lambda v, x: model.apply(v, x, train=False))
    lowered = compiled.lower(variables, IMAGES).compile()
    return lowered(variables, IMAGES), lowered.cost_analysis()["flops"]


def test_a_pruned_net_is_the_head_of_its_level_and_cheaper():
    deep = make(deep_supervision=True)
    variables = init(deep, jax.random.key(0))
    outputs, most = apply(deep, variables)
    assert set(outputs) == {"logits", "level1", "level2", "level3"}
    for level in (3, 2, 1):
        pruned, flops = apply(make(level=level), variables)
        assert set(pruned) == {"logits"}
        np.testing.assert_allclose(pruned["logits"], outputs[f"level{level}"], rtol=1e-5, atol=1e-6)
        assert flops < 0.95 * most  # what is not needed is not computed
        most = flops
    inner = jax.eval_shape(lambda: init(make(level=1), jax.random.key(0)))["params"]
    assert set(inner) == {"encoder", "decoder", "level1"}
    assert set(inner["decoder"]) == {"x1_1"}


def test_the_highest_level_is_the_whole_net():
    variables, whole = (jax.eval_shape(lambda m=m: init(m, jax.random.key(0))) for m in (make(level=4), make()))
    assert variables == whole


def test_a_level_that_there_is_not_is_an_error():
    with pytest.raises(UserError, match="no level 5 on this encoder. Choose one of 1 to 4"):
        jax.eval_shape(lambda: init(make(level=5), jax.random.key(0)))


class FromC2(nn.Module):
    """An encoder without c1."""

    @nn.compact
    def __call__(self, image, *, train):
        return {f"c{i}": jnp.ones((1, *(-(-n // 2**i) for n in image.shape[1:3]), 4)) for i in (2, 3, 4, 5)}


def test_an_encoder_without_c1_has_nothing_to_supervise():
    model = create_model("unetplusplus", FromC2(), num_classes=2, decoder_channels=(4,) * 5)
    nodes = jax.eval_shape(lambda: init(model, jax.random.key(0)))["params"]["decoder"]
    assert {name for name in nodes if name.startswith("x1")} == {"x1_4"}
    with pytest.raises(UserError, match="need the encoder's c1"):
        jax.eval_shape(lambda: init(model.clone(deep_supervision=True), jax.random.key(0)))
