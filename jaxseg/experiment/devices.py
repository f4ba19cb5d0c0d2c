"""Where arrays live: a batch is split over all devices, the state is whole on each or, with "fsdp", divided over n.

Fully sharded data parallelism (Rajbhandari et al., 2020, arXiv:1910.02054, called ZeRO there) divides what a run keeps,
not what it computes: the parameters are gathered for a step, and the gradient is summed into the parts.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxseg.checks import UserError

LEAST = 1024  # numbers of an array; smaller ones are whole on every device, as sending their parts would take longer


def make_mesh(devices: int = 0, fsdp: int = 1) -> Mesh:
    """Returns a mesh of devices with one axis, "data", or with two, "data" and "fsdp".

    Args:
      devices: how many devices to use, of all processes together; 0 is all of them.
      fsdp: n consecutive devices share one copy of the state; 1 is a copy on each.

    Raises:
      UserError: JAX sees fewer devices; or `fsdp` does not divide their number; or a process would have none.
    """
    found = sorted(jax.devices(), key=lambda device: device.process_index)  # each process has a part of the batch
    if devices > len(found):
        raise UserError(f"config.train.devices={devices}, but JAX sees {len(found)}: {found}. Use 0 for all.")
    chosen = found[: devices or len(found)]
    if jax.process_count() > 1 and len({device.process_index for device in chosen}) < jax.process_count():
        raise UserError(f"config.train.devices={devices} leaves some of {jax.process_count()} processes without one.")
    if fsdp < 1 or len(chosen) % fsdp:
        known = ", ".join(str(n) for n in range(1, len(chosen) + 1) if len(chosen) % n == 0)
        raise UserError(f"config.train.fsdp={fsdp} does not divide {len(chosen)} devices. Use one of {known}.")
    return _mesh(chosen, fsdp)


def make_mesh_like(devices: int, fsdp: int) -> Mesh:
    """Returns a mesh like that of a training with these settings, of what devices there are here.

    What was trained on eight devices is so evaluated on one.
    """
    count = min(devices or len(jax.devices()), len(jax.devices()))
    return make_mesh(count, math.gcd(max(fsdp, 1), count))


def _mesh(devices: list[Any], fsdp: int) -> Mesh:
    if fsdp == 1:
        return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    return Mesh(np.array(devices).reshape(-1, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)


def local_mesh(mesh: Mesh) -> Mesh:
    """Returns a mesh of those devices of `mesh` that belong to this process. Each process evaluates on its own."""
    own = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
    return _mesh(own, math.gcd(mesh.shape.get("fsdp", 1), len(own)))


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Returns the sharding of what every device holds a whole copy of."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of batches: the first axis is split over all devices."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names if len(mesh.axis_names) > 1 else "data"))


def sharding_of(shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> NamedSharding:
    """Returns where an array of the state lives: split along its largest axis that the axis "fsdp" of `mesh` divides.

    Of two axes of one size the last is split. An array without such an axis, and one of fewer than `LEAST` numbers, is
    whole on every device. The rule knows shapes alone, so that a parameter, the optimizer's memory of it and its
    average are split alike.
    """
    parts = mesh.shape.get("fsdp", 1)
    fitting = [(n, axis) for axis, n in enumerate(shape) if n % parts == 0]
    if parts == 1 or math.prod(shape) < LEAST or not fitting:
        return replicated(mesh)
    _, axis = max(fitting)
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))


def state_sharding(tree: Any, mesh: Mesh) -> Any:
    """Returns a tree like `tree`, of arrays or of their shapes, with the sharding of each."""
    return jax.tree.map(lambda x: sharding_of(np.shape(x), mesh), tree)


def place(tree: Any, mesh: Mesh) -> Any:
    """Puts the arrays of a state, or of its variables, on the devices of `mesh` by the rule of `sharding_of`."""
    return jax.device_put(tree, state_sharding(tree, mesh))


def build(function: Callable[[Any], Any], tree: Any, mesh: Mesh) -> Any:
    """Returns `function(tree)` on the devices of `mesh`; where the state is divided, no device ever holds all of it.

    Args:
      function: from arrays to arrays; can be traced.
      tree: its argument.
      mesh: of `make_mesh`.
    """
    if mesh.shape.get("fsdp", 1) == 1:
        return place(function(tree), mesh)
    tree = place(tree, mesh)
    return jax.jit(function, out_shardings=state_sharding(jax.eval_shape(function, tree), mesh))(tree)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts a copy of every array of `tree` on every device of `mesh`."""
    return jax.device_put(tree, replicated(mesh))


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Returns the global batch, of which every process gives its own part; nothing is copied between processes."""
    sharding = batched(mesh)
    return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}


def localize(tree: Any, mesh: Mesh) -> Any:
    """Returns arrays of all processes as arrays on `mesh`, the devices of this process alone; all must call it.

    What is divided over the devices of several processes is gathered until each process has all of it.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, state_sharding(tree, mesh))
    leaves = jax.tree.leaves(tree)
    if all(x.is_fully_replicated for x in leaves):
        return place(jax.tree.map(lambda x: x.addressable_data(0), tree), mesh)
    axes, shape = ("process", *mesh.axis_names), (jax.process_count(), *mesh.devices.shape)
    every = leaves[0].sharding.mesh.devices.reshape(shape)  # those of a process are next to each other
    whole = Mesh(every, axes, axis_types=(AxisType.Auto,) * len(axes))
    here = state_sharding(tree, mesh)
    gathered = jax.jit(lambda x: x, out_shardings=jax.tree.map(lambda s: NamedSharding(whole, s.spec), here))(tree)
    return jax.tree.map(
        lambda x, sharding: jax.make_array_from_single_device_arrays(
            x.shape, sharding, [shard.data for shard in x.addressable_shards]
        ),
        gathered,
        here,
    )


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises a `UserError` if the images of a batch cannot be split evenly over the devices of `mesh`."""
    if batch_size % mesh.size:
        near = max(batch_size // mesh.size, 1) * mesh.size
        raise UserError(
            f"config.data.batch_size={batch_size} does not split over {mesh.size} devices. Use e.g. {near}."
        )
    counts = {process: 0 for process in range(jax.process_count())}
    for device in mesh.devices.flat:
        counts[device.process_index] += 1
    if len(set(counts.values())) > 1:
        raise UserError(
            f"The processes have {', '.join(map(str, counts.values()))} devices. Each reads an equal part of the batch:"
            " start all with as many devices, e.g. by CUDA_VISIBLE_DEVICES."
        )


def wait_for_all(event: str) -> None:
    """Waits until every process of the run has called this with the same `event`, a name."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(event)


def any_of_processes(flags: Sequence[bool]) -> jax.Array:
    """Returns, for every flag, whether it is true in at least one process. All processes must call it.

    The result, bool, lies on a device of this process, which computes it after what was sent to it before; nothing is
    waited for until it is read.
    """
    mesh = make_mesh()
    own = np.tile(np.asarray(flags, bool), (jax.local_device_count(), 1))
    everywhere = jax.make_array_from_process_local_data(batched(mesh), own)
    return _any_row(mesh)(everywhere).addressable_data(0)


@functools.cache
def _any_row(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda rows: rows.any(axis=0), out_shardings=replicated(mesh))


def any_process(flag: bool) -> bool:
    """Returns whether `flag` is true in at least one process. All processes must call it."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))
