"""Memory of a step: an estimate before the first one, and what to say when it does not suffice."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxseg.checks import UserError
from jaxseg.experiment.log import say

FULL = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory", "OUT_OF_MEMORY")
TIGHT = 0.9  # of the memory; an estimate above it is said, as a device's memory is never used without gaps


def needed_bytes(compiled: Any) -> int | None:
    """Returns the bytes that a compiled program takes on each device, its arguments included; None if unknown."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    parts = ("argument", "output", "temp", "generated_code")
    total = sum(getattr(analysis, f"{part}_size_in_bytes", 0) for part in parts)
    return total - getattr(analysis, "alias_size_in_bytes", 0)


def device_bytes(device: jax.Device) -> int | None:
    """Returns the bytes of memory that JAX may use on a device, None where that is not known.

    A CPU's are those of the machine, or fewer if a container or `ulimit -v` says so; its devices share them.
    """
    if device.platform != "cpu":
        found = device.memory_stats() or {}
        return found.get("bytes_limit")
    return min(filter(None, (_machine(), _container(), _ulimit())), default=None)


def _machine() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not of this system
        return None


def _container() -> int | None:
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return int(Path(file).read_text())
    return None


def _ulimit() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def check_memory(compiled: Any, devices: list[jax.Device], config: ConfigDict) -> None:
    """Raises a `UserError` if a compiled step needs more memory than there is, and says so if it will be tight.

    Args:
      compiled: of `jax.jit(...).lower(...).compile()`.
      devices: of the mesh.
      config: of the run.
    """
    needed, there = needed_bytes(compiled), device_bytes(devices[0])
    if not needed or not there:
        return
    local = [d for d in devices if d.process_index == jax.process_index()]
    needed *= len(local) if devices[0].platform == "cpu" else 1
    sizes = f"A step needs about {needed / 1e9:.2f} GB of memory, the device has {there / 1e9:.2f} GB"
    if needed > there:
        raise UserError(f"{sizes}. {what_to_lower(config)}")
    if needed > TIGHT * there:
        say(f"warning: {sizes}: that may not suffice. {what_to_lower(config)}")


def what_to_lower(config: ConfigDict) -> str:
    """Returns what makes a step of training take less memory, the most effective first, as a sentence."""
    c, ways = config, []
    if c.data.batch_size > 1:
        ways.append(
            f"config.data.batch_size={c.data.batch_size} (half of it with"
            f" config.optim.accumulate={2 * c.optim.accumulate} shows an update as many images)"
        )
    ways.append(f"config.data.crop={tuple(c.data.crop)}, with data.canvas")
    ways = [f"Lower {' or '.join(ways)}"]
    if "remat" in c.train and not c.train.remat:
        ways.append("set config.train.remat=blocks, which computes again what it does not keep")
    if c.model.dtype == "float32":
        ways.append("set config.model.dtype=bfloat16, which halves what the layers keep")
    return "; or ".join(ways) + "."


@contextlib.contextmanager
def out_of_memory(remedy: Callable[[], str]) -> Iterator[None]:
    """Turns JAX's error of a device without enough memory into a `UserError`, while the block runs.

    Args:
      remedy: returns what to do, as sentences.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and not any(word in str(error) for word in FULL):
            raise
        text = (str(error).strip().splitlines() or ["no message"])[0][:200]
        raise UserError(f"Out of memory: {text}.\n{remedy()}") from error
