"""Sharding helpers: batches are split over the one mesh axis "data"; everything else is replicated."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxseg.checks import UserError


def make_mesh(devices: int = 0) -> Mesh:
    """Returns the mesh of the run.

    Args:
      devices: how many devices to use, over all processes; 0 is all of them.
    """
    found = jax.devices()
    if devices > len(found):
        raise UserError(f"config.train.devices={devices}, but JAX sees {len(found)}: {found}. Use 0 for all.")
    chosen = found[: devices or len(found)]
    return Mesh(np.array(chosen), ("data",), axis_types=(AxisType.Auto,))


def local_mesh(mesh: Mesh) -> Mesh:
    """Returns the part of `mesh` that this process owns; evaluation runs on it, process by process."""
    own = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
    return Mesh(np.array(own), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of state: every device holds all of it."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """The sharding of batches: the leading axis is split over "data"."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a copy of every array of `tree` on every device of `mesh`."""
    return jax.device_put(tree, replicated(mesh))


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Makes one global batch of the processes' own parts, without copying between processes."""
    sharding = batched(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def localize(tree: Any, mesh: Mesh) -> Any:
    """Returns replicated global arrays as arrays of this process's devices `mesh` alone."""
    return replicate(jax.tree.map(lambda x: x.addressable_data(0), tree), mesh)


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises where the global batch does not split evenly over the devices."""
    if batch_size % mesh.size:
        near = max(batch_size // mesh.size, 1) * mesh.size
        raise UserError(
            f"config.data.batch_size={batch_size} does not split over {mesh.size} devices. Use e.g. {near}."
        )


def wait_for_all(event: str) -> None:
    """Returns when every process of the run has come to `event`."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(event)


def any_process(flag: bool) -> bool:
    """Says whether `flag` is true in any process; all of them must ask."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))
