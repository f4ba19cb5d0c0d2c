"""Compiles training steps for a GPU that is not there, and says what their programs do.

XLA's compiler for NVIDIA GPUs needs a description of the card, and no card. What it cannot do without one is to try
which algorithm of cuDNN and which tiles are fastest, so that a program on the card may differ in these. Times are for
the card to tell; kernels, bytes, memory, dtypes and layouts are read here.
"""

import importlib.util
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from jaxseg.bench.cases import Case
from jaxseg.bench.hlo import Reading, read
from jaxseg.bench.program import make_program
from jaxseg.checks import UserError

PLUGIN = "jax_plugins.xla_cuda13"
# The plugin, and those of NVIDIA's libraries that the compiler itself uses.
PACKAGES = (
    *("jax-cuda13-pjrt", "jax-cuda13-plugin", "nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-nvjitlink"),
    *("nvidia-cuda-crt", "nvidia-cuda-runtime", "nvidia-cuda-cupti", "nvidia-cudnn-cu13"),
)


def missing() -> str | None:
    """Says what is missing to compile for a GPU, None if all is there; adds the folder CUDA_SITE to the path."""
    folder = os.environ.get("CUDA_SITE")
    if folder and folder not in sys.path:
        sys.path.append(folder)
    try:
        found = importlib.util.find_spec(PLUGIN)
    except ModuleNotFoundError:
        found = None
    if found is None:
        return "JAX's plugin for CUDA 13 is not installed"
    return None if (_toolkit() / "nvvm").is_dir() else f"NVIDIA's compiler (nvvm) is not in {_toolkit()}"


def _toolkit() -> Path:
    spec = importlib.util.find_spec("nvidia")
    places = list(spec.submodule_search_locations or []) if spec else []
    found = [Path(place) / "cu13" for place in places]
    return next((place for place in found if place.is_dir()), Path("nvidia/cu13"))


def make_mesh(target: str) -> Mesh:
    """Returns a mesh of one GPU that is not there. Call it before JAX has begun to use any device.

    Args:
      target: the text of its description.
    """
    if (what := missing()) is not None:
        version = jax.__version__
        names = " ".join(f"{name}=={version}" if name.startswith("jax-") else name for name in PACKAGES)
        raise UserError(
            f"To compile for a GPU, {what}. No GPU is needed, but these packages are, about 1.3 GB:\n"
            f"  pip install --no-deps {names}\n"
            "Or unpack their wheels into one folder, and name it in the variable CUDA_SITE."
        )
    from jax.experimental import topologies

    flags = os.environ.get("XLA_FLAGS", "")
    for name, value in (("xla_gpu_autotune_level", "0"), ("xla_gpu_cuda_data_dir", str(_toolkit()))):
        if name not in flags:
            flags += f" --{name}={value}"
    os.environ["XLA_FLAGS"] = flags.strip()
    jax.config.update("jax_platforms", "cpu")
    jax.devices()  # makes JAX look for its plugins
    try:
        topology = topologies.get_topology_desc(platform="cuda", target_config=target, topology="1x1x1")
    except Exception as error:
        raise UserError(
            f"JAX's plugin for CUDA refuses the description of the GPU: {str(error).splitlines()[0]}. Give a text of"
            " XLA's GpuTargetConfigProto, take the plugin of jax's version, and compile before JAX uses any device."
        ) from error
    return Mesh(np.array(topology.devices), ("data",), axis_types=(AxisType.Auto,))


def compile_cases(cases: Mapping[str, Case], target: str) -> Iterator[dict[str, Any]]:
    """Compiles the training step of each case, and yields a row of what is in its program.

    Args:
      cases: what to compile, by name.
      target: the text of the GPU's description.

    Yields:
      "name", "kernels", "small" (that touch less than 2 MB), "bytes" touched, "temporary_bytes" and "program_bytes",
      "convolution_flops", "convolutions" (by kind, dtype and layout), "transposed" activations, "targets" (kernels and
      bytes by kind) and "seconds" to trace and compile.
    """
    mesh = make_mesh(target)
    for name, case in cases.items():
        began = time.perf_counter()
        compiled = compile_step(case, mesh)
        seconds = time.perf_counter() - began
        yield {"name": name, "title": case.title(), "seconds": seconds, **figures(compiled, case.batch)}


def compile_step(case: Case, mesh: Mesh) -> Any:
    """Returns the compiled training step of a case, for the devices of `mesh`."""
    program = make_program(case, mesh=mesh)
    return program.step.trace(*program.shapes()).lower().compile()


def figures(compiled: Any, batch: int) -> dict[str, Any]:
    """Returns what is in a compiled program, see `compile_cases`."""
    from jaxseg.bench.speed import program_size

    reading: Reading = read(compiled.as_text(), batch)
    memory = compiled.memory_analysis()
    return {
        "kernels": len(reading.kernels),
        "small": reading.small,
        "bytes": reading.bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "program_bytes": program_size(memory),
        "convolution_flops": reading.convolution_flops,
        "convolutions": reading.convolutions(),
        "transposed": list(reading.transposed),
        "targets": reading.by_target(),
    }


def markdown(rows: Sequence[Mapping[str, Any]], target: str) -> str:
    """Returns rows of `compile_cases` as a Markdown table.

    Args:
      rows: at least one.
      target: the text of the GPU's description, for its bandwidth.
    """
    bandwidth = float((re.search(r"memory_bandwidth: (\d+)", target) or [0, "3e12"])[1])
    lines = [
        f"| step | kernels | under 2 MB | GB touched | at {bandwidth / 1e12:.2f} TB/s | temporary GiB | whole GiB"
        " | TFLOP of convolutions | convolutions: dtypes; layouts | transposed activations | compile |",
        "|" + "---|" * 11,
    ]
    for row in rows:
        dtypes, layouts = _tally(row["convolutions"], 1), _tally(row["convolutions"], 2)
        lines.append(
            f"| {row['title']} | {row['kernels']} | {row['small']} | {row['bytes'] / 1e9:.1f}"
            f" | {1e3 * row['bytes'] / bandwidth:.1f} ms | {row['temporary_bytes'] / 2**30:.2f}"
            f" | {row['program_bytes'] / 2**30:.2f} | {row['convolution_flops'] / 1e12:.2f} | {dtypes}; {layouts}"
            f" | {len(row['transposed'])} | {row['seconds']:.0f} s |"
        )
    return "\n".join(lines) + "\n"


def _tally(convolutions: Mapping[str, int], word: int) -> str:
    """Counts convolutions by one word of their description."""
    found: dict[str, int] = {}
    for description, count in convolutions.items():
        key = description.split()[word]
        found[key] = found.get(key, 0) + count
    return ", ".join(f"{count} {key}" for key, count in sorted(found.items(), key=lambda item: -item[1])) or "none"
