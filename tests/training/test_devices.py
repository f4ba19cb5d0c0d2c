"""The step on two devices, in a process that has two."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from jaxseg.training import create_state, make_mesh, make_train_step, shard_batch


def _steps(devices, *, sharded):
    """Returns the state after two steps of a linear model, and the losses."""

    def forward(variables, images, key):
        return {"logits": images @ variables["params"]["kernel"] + variables["params"]["bias"]}, {}

    def loss_fn(outputs, labels, where, step):
        return optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], labels).mean(where=where)

    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), "bias": jnp.zeros(4)}
    tx, mesh = optax.adam(0.1), make_mesh(devices)
    state, sharding = create_state({"params": params}, tx), None
    if sharded:
        sharding = jax.tree.map(lambda x: NamedSharding(mesh, PartitionSpec(*[None, "data"][: x.ndim])), state)
        state = jax.device_put(state, sharding)
    step = make_train_step(forward, tx, loss_fn, mesh=mesh, state_sharding=sharding)
    losses = []
    for _ in range(2):
        batch = {"image": rng.normal(size=(4, 2, 2, 3)).astype(np.float32), "label": rng.integers(0, 4, (4, 2, 2))}
        batch = {**batch, "label": batch["label"].astype(np.int32)}
        batch["where"] = batch["image"][..., 0] > [[[-1.0]], [[-1.0]], [[1.0]], [[0.0]]]  # not as many everywhere
        state, metrics = step(state, shard_batch(batch, mesh))
        losses.append(float(metrics["loss"]))
    return state, losses


def _compare():
    one, losses = _steps(1, sharded=False)
    for sharded, shape in ((False, (3, 4)), (True, (3, 2))):
        two, theirs = _steps(2, sharded=sharded)
        np.testing.assert_allclose(theirs, losses, rtol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), two, one)
        for kernel in (two.params["kernel"], two.opt_state[0].mu["kernel"]):
            assert [shard.data.shape for shard in kernel.addressable_shards] == [shape] * 2


def test_two_devices_learn_what_one_learns_and_can_share_the_state():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-c", "from tests.training.test_devices import _compare; _compare()"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
