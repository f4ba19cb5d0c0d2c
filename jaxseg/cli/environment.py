"""jaxseg environment: versions, devices and the variables that change them, for the report of an error."""

import argparse
import json
import os
from typing import Any

# Shown where they are installed: what runs on the GPU, and what weights, data and logs come from.
OPTIONAL = (
    *("jax-cuda12-plugin", "jax-cuda13-plugin", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "libtpu"),
    *("torch", "torchvision", "timm", "segmentation-models-pytorch", "tensorflow", "tensorflow-datasets"),
)
# How the variables begin that change what JAX does. No others are shown: some hold secrets.
PREFIXES = ("JAX_", "XLA_", "TF_XLA", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")


def main(args: argparse.Namespace) -> int:
    """Prints the environment and returns the exit status."""
    found = describe()
    print(json.dumps(found, indent=1) if args.json else as_text(found))
    return 0


def describe() -> dict[str, Any]:
    """Returns what a run writes to environment.json, the kind of device, the CPU's cores and JAX's variables."""
    import jax

    from jaxseg.bench.timing import cores
    from jaxseg.experiment.log import environment, version_of

    found = environment()
    kinds = sorted({device.device_kind for device in jax.devices()}) if found["devices"] else []
    found["versions"] |= {name: version for name in OPTIONAL if (version := version_of(name))}
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(PREFIXES)}
    return {**found, "kinds": kinds, "cores": cores(), "variables": variables}


def as_text(found: dict[str, Any]) -> str:
    """Returns the environment as a table of names and values.

    >>> print(as_text({"python": "3.12.1", "versions": {"jax": "0.10.2", "grain": None}, "devices": ["cpu:0"]}))
    python   3.12.1
    jax      0.10.2
    grain    none
    devices  cpu:0
    """
    rows: dict[str, Any] = {}
    for name, value in found.items():
        rows |= value if isinstance(value, dict) else {name: value}
    width = max(map(len, rows))
    texts = {name: ", ".join(value) if isinstance(value, list) else str(value or "") for name, value in rows.items()}
    return "\n".join(f"{name:{width}}  {text or 'none'}" for name, text in texts.items())
