"""Attention U-Net: which skips have a gate."""

import jax
import pytest

from jaxseg.models import create_model, init


@pytest.mark.parametrize("widths, gates", [((4, 4, 4, 4, 4), {"gate0", "gate1", "gate2"}), ((4, 4), set())])
def test_every_skip_but_the_finest_is_gated(widths, gates):
    channels = (4,) * len(widths)
    options = {"encoder_options": {"widths": widths, "convs": 1}, "decoder_channels": channels, "gate_features": 2}
    model = create_model("attention_unet", "plain", num_classes=2, **options)
    decoder = jax.eval_shape(lambda: init(model, jax.random.key(0)))["params"]["decoder"]
    assert {name for name in decoder if name.startswith("gate")} == gates
    for name in gates:
        assert decoder[name]["key"]["kernel"].shape == (2, 2, 4, 2)
