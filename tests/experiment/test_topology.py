"""Checkpoints of one number of devices open on any other, and give the shardings that are asked for."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxseg.experiment.checkpoint import Checkpoints
from jaxseg.experiment.reading import Damaged
from jaxseg.experiment.state import create_state, eval_variables
from jaxseg.files import read_json, write_json


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


def _of_two_processes(folder, process, port):
    """Restores what one device wrote, writes it divided over eight devices of two processes, and restores that."""
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=process)
    from jax.experimental import multihost_utils

    own, _ = Checkpoints(folder / "one").restore(1, _state())  # each process on a device of its own
    chex.assert_trees_all_equal(own, _state())
    sharding, _ = _shardings(_state())
    like = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), _state(), sharding)
    state, data = Checkpoints(folder / "one").restore(1, like)
    checkpoints = Checkpoints(folder / "two", writable=True)
    checkpoints.save(1, state, data)
    checkpoints.close()
    again, _ = Checkpoints(folder / "two").restore(1, like)
    chex.assert_trees_all_equal(multihost_utils.process_allgather(again, tiled=True), jax.device_get(_state()))
    file = folder / "two" / "checkpoints" / "1" / "digests" / "process_0.json"
    whole, broken = read_json(file), read_json(file)
    broken["arrays"]["params/head/kernel"] = format(int(broken["arrays"]["params/head/kernel"], 16) ^ 1, "x")
    multihost_utils.sync_global_devices("both have read the digests")
    if process == 0:
        write_json(file, broken)
    multihost_utils.sync_global_devices("the digests are changed")
    with pytest.raises(Damaged, match="other values than were written, in params/head/kernel"):
        Checkpoints(folder / "two").restore(1, like)
    multihost_utils.sync_global_devices("both have seen it")
    if process == 0:
        write_json(file, whole)


def test_two_processes_write_what_one_reads(tmp_path):
    checkpoints = Checkpoints(tmp_path / "one", writable=True)
    checkpoints.save(1, _state(), {"iterator": {"next_index": 1}})
    checkpoints.close()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    program = "import pathlib; from tests.experiment.test_topology import _of_two_processes as run\n"
    program += "run(pathlib.Path({!r}), {}, {})"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program.format(str(tmp_path), process, port)],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(2)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    checkpoints = Checkpoints(tmp_path / "two")
    chex.assert_trees_all_equal(checkpoints.restore_variables(1), eval_variables(_state()))
    chex.assert_trees_all_equal(checkpoints.restore(1, _state())[0], _state())


def test_one_device_eight_and_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "one", writable=True)
    checkpoints.save(1, _state(), {"iterator": {"next_index": 1}})
    checkpoints.close()
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
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
