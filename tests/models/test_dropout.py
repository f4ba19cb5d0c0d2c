"""What `dropout` asks of a model is what its layers drop: at that rate, values or whole channels."""

import inspect

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from jaxseg.models import MODELS, create_model

RATE = 0.37
WITH_DROPOUT = [name for name, make in MODELS.items() if "dropout" in inspect.signature(make).parameters]
OPTIONS = {"deeplabv2": {"encoder": "vgg16", "hidden": 16}}
WHOLE_CHANNELS = {"fcn", "fpn", "panet", "pspnet"}
LAYERS = {"unet_original": 2, "fcn32s": 2, "fcn16s": 2, "fcn8s": 2, "deeplabv1": 2, "deeplabv2": 2 * 4}  # others one


def _dropped(model):
    """Returns (rate, axes that share a draw, whether it drops) of every dropout layer of a training step, unrun."""
    found = []

    def note(call, arguments, keywords, context):
        if isinstance(context.module, nn.Dropout):
            layer = context.module
            found.append((layer.rate, tuple(layer.broadcast_dims), not keywords["deterministic"]))
        return call(*arguments, **keywords)

    def step(key):
        with nn.intercept_methods(note):
            return model.init({"params": key, "dropout": key}, jnp.zeros((1, 64, 64, 3)), train=True)

    jax.eval_shape(step, jax.random.key(0))
    return found


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_layers_drop_at_the_models_rate(name):
    found = _dropped(create_model(name, num_classes=3, dropout=RATE, **OPTIONS.get(name, {})))
    if name == "pspnet":
        assert found.pop() == (0.1, (1, 2), True)  # of its auxiliary head
    axes = (1, 2) if name in WHOLE_CHANNELS else ()
    assert [layer for layer in found if layer[0]] == [(RATE, axes, True)] * LAYERS.get(name, 1)
