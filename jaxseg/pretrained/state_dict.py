"""Reads PyTorch's state dicts as arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.checks import UserError

StateDict = str | Path | Mapping[str, Any]


def read_state_dict(source: StateDict) -> dict[str, np.ndarray]:
    """Returns the arrays of a `.safetensors` or PyTorch file, or of a mapping of arrays or tensors.

    PyTorch's files need no PyTorch and may run no code: see `torch_file`.

    >>> read_state_dict({"fc.bias": [0.0, 1.0]})["fc.bias"].shape
    (2,)
    """
    if isinstance(source, Mapping):
        return {key: _to_numpy(value) for key, value in source.items()}
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"There is no file '{path}' to read a state dict from.")
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    from jaxseg.pretrained.torch_file import read_torch_file

    return read_torch_file(path)


def _to_numpy(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor of PyTorch
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    return np.asarray(value)
