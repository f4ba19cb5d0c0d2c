"""Reading PyTorch's state dicts as arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.checks import UserError
from jaxseg.files import atomic_path
from jaxseg.pretrained.wrapping import Entries, drop_compiled, unwrap

StateDict = str | Path | Mapping[str, Any]


def read_state_dict(source: StateDict) -> dict[str, np.ndarray]:
    """Returns the arrays of a `.safetensors`, `.onnx`, `.h5` or PyTorch file, or of a mapping of arrays or tensors.

    In a trainer's checkpoint the state dict may be under "state_dict", "model_state_dict", "model" or a similar name.
    The prefix that `torch.compile` gives to names is left out. Reading needs no PyTorch and runs no code of the file,
    see `torch_file`.

    >>> read_state_dict({"epoch": 3, "model": {"_orig_mod.fc.bias": [0.0, 1.0]}})
    {'fc.bias': array([0., 1.])}
    """
    return read_entries(source).arrays


def read_entries(source: StateDict | Entries) -> Entries:
    """Reads the arrays as `read_state_dict` does, and also returns notes on what was left out."""
    if isinstance(source, Entries):
        return source
    if isinstance(source, Mapping):
        try:
            state_dict, notes = unwrap(_arrays(source), np.ndarray)
        except UserError as error:
            raise UserError(f"The state dict cannot be read: {error}") from None
        return drop_compiled(Entries(state_dict, notes))
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"There is no file '{path}' to read a state dict from.")
    if path.suffix == ".safetensors":
        return drop_compiled(Entries(read_safetensors(path)))
    if path.suffix == ".onnx":
        from jaxseg.pretrained.onnx_file import read_onnx

        return drop_compiled(read_onnx(path))
    if path.suffix == ".h5":
        from jaxseg.pretrained.keras_file import read_keras

        return read_keras(path)
    from jaxseg.pretrained.torch_file import read_torch_file

    return drop_compiled(read_torch_file(path))


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a `.safetensors` file by name, or raises a `UserError` that says what is wrong with it."""
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except OSError:
        raise
    except Exception as error:  # SafetensorError of a damaged header, KeyError of a type that NumPy has not, …
        raise UserError(
            f"{path} is no .safetensors file that can be read: {type(error).__name__}: {error}. Copy it again, or save"
            " it again as float32."
        ) from error


def write_safetensors(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a `.safetensors` file, whole or not at all, which others may read as they may read the folder's.

    Args:
      path: of the file.
      arrays: by name.
    """
    from safetensors.numpy import save_file

    with atomic_path(path) as part:
        part.touch()
        mode = part.stat().st_mode
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, part)
        part.chmod(mode)  # safetensors writes for its user alone, whatever the umask


def _arrays(content: Mapping[Any, Any]) -> dict[Any, Any]:
    """A mapping with arrays in place of tensors and lists of numbers; what is neither stays."""
    return {key: _arrays(value) if isinstance(value, Mapping) else _to_numpy(value) for key, value in content.items()}


def _to_numpy(value: Any) -> Any:
    if hasattr(value, "detach"):  # a tensor of PyTorch
        value = value.detach().cpu()
        return np.asarray(value.float() if value.is_floating_point() else value)
    if isinstance(value, str | bytes | int | float | None):
        return value
    try:
        array = np.asarray(value)
    except ValueError:  # lists of several lengths
        return value
    return value if array.dtype.kind in "OUSMm" else array
