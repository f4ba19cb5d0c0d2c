"""Sharding helpers: batches are split over the one mesh axis "data"; everything else is replicated."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxseg.checks import UserError


def make_mesh(devices: int = 0) -> Mesh:
    """Returns a mesh of devices with one axis, "data".

    Args:
      devices: how many devices to use, of all processes together; 0 is all of them.

    Raises:
      UserError: JAX sees fewer devices.
    """
    found = jax.devices()
    if devices > len(found):
        raise UserError(f"config.train.devices={devices}, but JAX sees {len(found)}: {found}. Use 0 for all.")
    chosen = found[: devices or len(found)]
    return Mesh(np.array(chosen), ("data",), axis_types=(AxisType.Auto,))


def local_mesh(mesh: Mesh) -> Mesh:
    """Returns a mesh of those devices of `mesh` that belong to this process. Each process evaluates on its own."""
    own = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
    return Mesh(np.array(own), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of the state: every device holds a whole copy."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of batches: the first axis is split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a copy of every array of `tree` on every device of `mesh`."""
    return jax.device_put(tree, replicated(mesh))


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Returns the global batch, of which every process gives its own part; nothing is copied between processes."""
    sharding = batched(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def localize(tree: Any, mesh: Mesh) -> Any:
    """Returns arrays that every device holds as arrays on `mesh`, the devices of this process alone."""
    return replicate(jax.tree.map(lambda x: x.addressable_data(0), tree), mesh)


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises a `UserError` if the images of a batch cannot be split evenly over the devices of `mesh`."""
    if batch_size % mesh.size:
        near = max(batch_size // mesh.size, 1) * mesh.size
        raise UserError(
            f"config.data.batch_size={batch_size} does not split over {mesh.size} devices. Use e.g. {near}."
        )


def wait_for_all(event: str) -> None:
    """Waits until every process of the run has called this with the same `event`, a name."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(event)


def any_process(flag: bool) -> bool:
    """Returns whether `flag` is true in at least one process. All processes must call it."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))
