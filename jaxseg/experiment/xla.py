"""XLA's flags of a run: named presets, and a file of autotuning results.

XLA reads them from the variable XLA_FLAGS when JAX first uses a device, so they are set before that, by the program
`jaxseg train`. What the user has put there already is never changed.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from jaxseg.checks import UserError, lookup

VARIABLE = "XLA_FLAGS"
DUMP, LOAD = "xla_gpu_dump_autotune_results_to", "xla_gpu_load_autotune_results_from"


class Flag(NamedTuple):
    """A flag of XLA's, why it is in a preset, and what was measured of it."""

    name: str
    value: str
    why: str
    measured: str = "not yet measured"


PRESETS: dict[str, tuple[Flag, ...]] = {
    "": (),
    "gpu": (
        Flag(
            "xla_gpu_enable_latency_hiding_scheduler",
            "true",
            "sums of gradients over several GPUs run beside the backward pass; one GPU has none",
        ),
        Flag(
            "xla_gpu_all_reduce_combine_threshold_bytes",
            "134217728",
            "those sums of a hundred parameters become few large ones, as a small one takes as long as its start",
        ),
        Flag(
            "xla_gpu_graph_min_graph_size",
            "2",
            "short runs of kernels, too, are started as one CUDA graph: half of a step's kernels touch under 2 MB",
        ),
        Flag(
            "xla_gpu_enable_cublaslt",
            "true",
            "products of matrices take their bias and GELU with them, in transformers and 1x1 convolutions",
        ),
    ),
    "deterministic": (
        Flag(
            "xla_gpu_deterministic_ops",
            "true",
            "two runs give the same bits, if autotuning chose alike: give both one train.autotune_cache",
            "on an H100 two of three models equal, SegFormer's loss NaN (docs/gpu, 2026-11-26); price not measured",
        ),
    ),
}


def set_flags(config: ConfigDict, environment: MutableMapping[str, str] | None = None) -> list[str]:
    """Puts the flags that a config asks for into XLA_FLAGS, but those that are there already, and returns them.

    Call it before JAX first uses a device.

    Args:
      config: of a run; `train.xla` names a preset, `train.autotune_cache` a file of autotuning results, which is
        loaded if it is there and written if it is not.
      environment: in which XLA_FLAGS is set; None is the process's.

    Raises:
      UserError: the preset is not known, or the file's folder cannot be made.
    """
    environment = os.environ if environment is None else environment
    before = environment.get(VARIABLE, "")
    new = [f"--{name}={value}" for name, value in _wanted(config).items() if not _has(before, name)]
    if new:
        environment[VARIABLE] = " ".join([*before.split(), *new])
    return new


def not_set(config: ConfigDict) -> list[str]:
    """Returns the names of the flags that a config asks for and XLA_FLAGS does not have.

    They are missing where another program than `jaxseg train` calls `jaxseg.training.train`.
    """
    given = os.environ.get(VARIABLE, "")
    return [name for name in _wanted(config) if not _has(given, name) and not (name == LOAD and _has(given, DUMP))]


def _wanted(config: ConfigDict) -> dict[str, str]:
    flags = {flag.name: flag.value for flag in lookup(PRESETS, config.train.xla, "config.train.xla")}
    if config.train.autotune_cache:
        path = Path(config.train.autotune_cache).expanduser().absolute()
        if " " in str(path):  # XLA splits its flags there
            raise UserError(f"config.train.autotune_cache={path} has a space in its path. Name a path without.")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        flags[LOAD if path.exists() else DUMP] = str(path)
    return flags


def _has(flags: str, name: str) -> bool:
    """Whether a flag is among those of XLA_FLAGS.

    >>> _has("--xla_gpu_deterministic_ops --xla_dump_to=/tmp", "xla_gpu_deterministic_ops"), _has("--xla_a_b", "xla_a")
    (True, False)
    """
    return any(word.lstrip("-").partition("=")[0] == name for word in flags.split())
