"""Checkpoints of one number of devices open on any other, and give the shardings that are asked for."""

import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.state import create_state, eval_variables


def _state():
    kernel = jnp.asarray(np.random.default_rng(0).standard_normal((16, 24), np.float32))
    variables = {"params": {"head": {"kernel": kernel, "bias": jnp.arange(8.0)}}, "batch_stats": {"mean": jnp.ones(3)}}
    return create_state(variables, optax.adam(1e-3), ema=True)


def _shardings(state):
    """Two ways of eight devices: matrices by columns and vectors over all, or by rows over four."""
    devices = np.array(jax.devices())
    wide = Mesh(devices.reshape(2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    ways = ({2: PartitionSpec(None, "fsdp"), 1: PartitionSpec(("data", "fsdp"))}, {2: PartitionSpec("fsdp")})
    for specs in ways:
        yield jax.tree.map(
            lambda x, specs=specs: NamedSharding(
                wide, specs.get(x.ndim, PartitionSpec()) if x.size % 8 == 0 else PartitionSpec()
            ),
            state,
        )


def _on_eight(folder):
    """Restores what one device wrote in two ways, and writes both."""
    for step, sharding in enumerate(_shardings(_state()), 1):
        like = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), _state(), sharding)
        state, data = Checkpoints(folder / "one").restore(1, like)
        jax.tree.map(lambda x, s: chex.assert_equal(x.sharding, s), state, sharding)
        chex.assert_trees_all_equal(state, _state())
        checkpoints = Checkpoints(folder / f"eight{step}", writable=True)
        checkpoints.save(1, state, data)
        checkpoints.close()


def test_one_device_eight_and_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "one", writable=True)
    checkpoints.save(1, _state(), {"iterator": {"next_index": 1}})
    checkpoints.close()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    program = "import pathlib; from tests.experiment.test_topology import _on_eight; _on_eight(pathlib.Path({!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program.format(str(tmp_path))],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for name in ("eight1", "eight2"):
        checkpoints = Checkpoints(tmp_path / name)
        chex.assert_trees_all_equal(checkpoints.restore_variables(1), eval_variables(_state()))
        state, data = checkpoints.restore(1, _state())
        chex.assert_trees_all_equal(state, _state())
        assert data == {"iterator": {"next_index": 1}}
