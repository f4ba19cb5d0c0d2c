"""Memory: an estimate before the first step, and sentences when a device has not enough."""

import jax
import jax.numpy as jnp
import pytest

from jaxseg.checks import UserError
from jaxseg.config import default_config
from jaxseg.training import memory


@pytest.fixture(scope="module")
def compiled():
    """A program of 64 MiB."""
    step = jax.jit(lambda x: jnp.sort((x[:, None] * x[None, :]).reshape(-1))[:8])
    return step.lower(jax.ShapeDtypeStruct((4096,), jnp.float32)).compile()


def test_a_step_is_weighed_before_it_runs(compiled, monkeypatch, capsys):
    devices, config = jax.devices(), default_config()
    assert 2**26 <= memory.needed_bytes(compiled) < 2**27
    memory.check_memory(compiled, devices, config)
    monkeypatch.setattr(memory, "_machine", lambda: 70_000_000)
    memory.check_memory(compiled, devices, config)
    assert "needs about 0.07 GB of memory, the device has 0.07 GB: that may not" in capsys.readouterr().err
    monkeypatch.setattr(memory, "_machine", lambda: 6e7)
    with pytest.raises(UserError, match="needs about 0.07 GB of memory, the device has 0.06 GB. Lower"):
        memory.check_memory(compiled, devices, config)


def test_a_device_says_what_memory_it_has():
    assert 2**28 < memory.device_bytes(jax.devices()[0]) < 2**50


def test_what_to_lower_is_what_the_run_can_lower():
    config = default_config()
    config.data.update(batch_size=6, crop=(320, 480))
    text = memory.what_to_lower(config)
    assert "batch_size=6" in text and "crop=(320, 480)" in text and "dtype=bfloat16" in text
    config.data.batch_size, config.model.dtype = 1, "bfloat16"
    text = memory.what_to_lower(config)
    assert "batch_size" not in text and "dtype" not in text


def test_running_out_of_memory_is_a_sentence():
    with (
        pytest.raises(UserError, match="Out of memory: RESOURCE_EXHAUSTED: .*\nLower the crop."),
        memory.out_of_memory(lambda: "Lower the crop."),
    ):
        jnp.zeros((1 << 46,), jnp.uint8)  # 64 TiB
    with pytest.raises(jax.errors.JaxRuntimeError, match="else"), memory.out_of_memory(lambda: ""):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
