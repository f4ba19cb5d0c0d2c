"""What is particular to U-Net."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.blocks.upsample import UPSAMPLING
from jaxseg.checks import UserError
from jaxseg.models import create_model, init

CHANNELS = (6, 4, 4, 4, 4)


def make(method):
    return create_model(
        "unet", "plain", num_classes=2, decoder_channels=CHANNELS, method=method, encoder_options={"widths": (4,) * 5}
    )


def test_one_upsampling_can_be_swapped_for_another():
    image = jax.random.normal(jax.random.key(1), (1, 33, 50, 3))
    variables = init(make("transposed"), jax.random.key(0))
    layers = {name for name in variables["params"]["decoder"] if name.startswith("upsample")}
    assert layers == {f"upsample{i}" for i in range(len(CHANNELS))}
    for name in layers:
        variables["params"]["decoder"][name]["conv"]["kernel"] *= 0.5  # else it is bilinear's twin but for the border

    def logits(method):
        return jax.jit(partial(make(method).apply, train=False))(variables, image)["logits"]

    seen = [logits(method) for method in UPSAMPLING]
    for i, one in enumerate(seen):
        assert one.shape == (1, 33, 50, 2)
        for other in seen[:i]:
            assert np.abs(one - other).max() > 1e-4 * np.abs(one).max()


def test_an_unknown_upsampling_is_named():
    with pytest.raises(UserError, match=r"Unknown upsampling 'bilinaer'. Did you mean 'bilinear'"):
        jax.eval_shape(partial(make("bilinaer").init, train=False), jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
