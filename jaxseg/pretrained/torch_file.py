"""Reads state dicts that PyTorch saved, without PyTorch and without running what the file says.

`torch.save` writes a pickle that refers to raw arrays, since PyTorch 1.6 as a zip archive and before that as
one flat file. The pickle is read with an allowlist of exactly what a state dict needs: ordered dictionaries,
tensors and storages. Everything else that a pickle can name is neither imported nor called: an inert `Unknown` stands
in its place. So the weights in a trainer's checkpoint can be read beside its settings and counters, and an `Unknown`
among the weights is refused.
"""

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxseg.checks import UserError
from jaxseg.pretrained.wrapping import Entries, unwrap

DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class Tensor(NamedTuple):
    """A view of a storage that may not have been read yet; sizes in elements."""

    dtype: np.dtype
    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Unknown:
    """Stands for an object whose class is not loaded. Whatever a pickle does to it has no effect."""

    refers_to = ""  # the name of the class or function

    def __new__(cls, *arguments: Any, **keywords: Any) -> "Unknown":
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **keywords: Any):
        pass

    def _nothing(self, *arguments: Any) -> "Unknown":
        return self

    __call__ = __setstate__ = __setitem__ = append = extend = add = _nothing


class _Unpickler(pickle.Unpickler):
    """Builds dictionaries of `Tensor`s, with an `Unknown` for the rest."""

    def __init__(self, file: BinaryIO | zipfile.ZipExtFile):
        super().__init__(file)
        self.itemsizes: dict[str, int] = {}  # bytes an element, of every storage met

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        return type("Unknown", (Unknown,), {"refers_to": f"{module}.{name}"})

    def persistent_load(self, pid: tuple) -> tuple[np.dtype, str] | type[Unknown]:
        kind, dtype, key, *_ = pid
        if kind == "module" and isinstance(dtype, type) and issubclass(dtype, Unknown):
            return dtype  # the flat format keeps the source code of a module's class
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise UserError(f"it refers to a {kind!r}, where a state dict holds storages only.")
        self.itemsizes[str(key)] = dtype.itemsize
        return dtype, str(key)

    @staticmethod
    def _tensor(
        storage: tuple[np.dtype, str], offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any
    ) -> Tensor:
        return Tensor(*storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def read_torch_file(path: str | Path) -> Entries:
    """Reads a state dict, or a trainer's checkpoint with one, that `torch.save` wrote (a `.pth`, `.pt`, `.ckpt` or
    `.bin` file)."""
    try:
        with open(path, "rb") as file:
            read = _read_zip if zipfile.is_zipfile(file) else _read_legacy
            file.seek(0)
            content, storage_of = read(file)
            state_dict, notes = unwrap(content, Tensor)
            return Entries({key: _array(tensor, storage_of) for key, tensor in state_dict.items()}, notes)
    except UserError as error:
        raise UserError(f"Cannot read '{path}' as a PyTorch state dict: {error}") from None
    except Exception as error:  # whatever a damaged pickle or archive may raise
        raise UserError(
            f"Cannot read '{path}' as a PyTorch state dict: {type(error).__name__}: {error}."
            " The file is damaged or of another format; expected what torch.save(model.state_dict(), path) writes."
        ) from error


def _read_zip(file: BinaryIO) -> tuple[Any, Callable[[str], bytes]]:
    archive = zipfile.ZipFile(file)
    (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = pickled.removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise UserError("it was written on a big-endian machine; save it again on a little-endian one.")
    with archive.open(pickled) as stream:
        content = _Unpickler(stream).load()
    return content, lambda key: archive.read(f"{folder}data/{key}")


def _read_legacy(file: BinaryIO) -> tuple[Any, Callable[[str], bytes]]:
    magic = _Unpickler(file).load()
    if isinstance(magic, Unknown):
        raise UserError(f"it refers to {magic.refers_to}, where a state dict holds tensors only.")
    if magic != LEGACY_MAGIC:
        raise UserError("it is not what torch.save writes.")
    _protocol, system = (_Unpickler(file).load() for _ in range(2))
    if not system["little_endian"]:
        raise UserError("it was written on a big-endian machine; save it again on a little-endian one.")
    unpickler = _Unpickler(file)
    content = unpickler.load()
    storages = {}
    for key in _Unpickler(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = file.read(count * unpickler.itemsizes[key])
    return content, storages.__getitem__


def _array(tensor: Tensor, storage_of: Callable[[str], bytes]) -> np.ndarray:
    data = np.frombuffer(storage_of(tensor.storage), tensor.dtype)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    inside = min(tensor.offset, *tensor.shape, *tensor.strides, 0) == 0 and last < data.size
    if math.prod(tensor.shape) and not inside:
        raise UserError("a tensor reaches beyond its storage; the file is damaged.")
    strides = [stride * data.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, strides).copy()
