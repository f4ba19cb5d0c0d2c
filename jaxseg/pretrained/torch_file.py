"""Reads state dicts that PyTorch saved, without PyTorch and without running what the file says.

`torch.save` writes a pickle that refers to raw arrays, since PyTorch 1.6 as a zip archive and before that as
one flat file. The pickle is read with an allowlist of exactly what a state dict needs: ordered dictionaries,
tensors and storages. Everything else that a pickle can name is neither imported nor called: an inert `Unknown` stands
in its place. So the weights in a trainer's checkpoint can be read beside its settings and counters, and an `Unknown`
among the weights is refused.
"""

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

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


class StorageType(NamedTuple):
    """What stands for a class of storages."""

    dtype: np.dtype


class _Unpickler(pickle._Unpickler):
    """Builds dictionaries of `Tensor`s, with an `Unknown` for the rest.

    On the machine of Python's own `pickle` in Python: that in C sets aside as much memory as a file of a few bytes
    asks for, and lets it change the attributes of whatever it can name. Here no state is put into any object, and what
    is hashed, such as a key, is no tuple of tuples, whose hash can take forever.
    """

    dispatch: ClassVar = {
        code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    def __init__(self, file: io.BufferedIOBase):
        super().__init__(file)
        self.itemsizes: dict[str, int] = {}  # bytes an element, of every storage met
        self.unknown: dict[str, type[Unknown]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _ordered
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if module == "torch" and name in DTYPES:
            return StorageType(DTYPES[name])
        refers_to = f"{module}.{name}"
        if refers_to not in self.unknown:
            self.unknown[refers_to] = type("Unknown", (Unknown,), {"refers_to": refers_to})
        return self.unknown[refers_to]

    def persistent_load(self, pid: Any) -> tuple[np.dtype, str] | type[Unknown]:
        kind, of, key, *_ = pid
        if kind == "module" and isinstance(of, type) and issubclass(of, Unknown):
            return of  # the flat format keeps the source code of a module's class
        if kind != "storage" or not isinstance(of, StorageType) or not isinstance(key, str | int):
            other = repr(kind) if isinstance(kind, str) else type(kind).__name__
            raise UserError(f"it refers to a {other}, where a state dict holds storages only.")
        self.itemsizes[str(key)] = of.dtype.itemsize
        return of.dtype, str(key)

    @staticmethod
    def _tensor(
        storage: tuple[np.dtype, str], offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any
    ) -> Tensor:
        dtype, key = storage
        if len(shape) > 32 or not all(isinstance(n, int) for n in (offset, *shape, *strides)):
            raise UserError("a tensor's shape is not one of whole numbers; the file is damaged.")
        return Tensor(dtype, key, offset, tuple(shape), tuple(strides))

    def _build(self) -> None:
        self.stack.pop()

    def _hashing(code: bytes, items: Callable[["_Unpickler"], Iterable[Any]]) -> Callable[["_Unpickler"], None]:  # type: ignore[misc]
        load = pickle._Unpickler.dispatch[code[0]]

        def checked(self: "_Unpickler") -> None:
            _check_hashed(items(self))
            load(self)

        return checked

    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.SETITEM[0]] = _hashing(pickle.SETITEM, lambda self: self.stack[-2:-1])
    for code in (pickle.SETITEMS, pickle.DICT):
        dispatch[code[0]] = _hashing(code, lambda self: self.stack[::2])
    for code in (pickle.ADDITEMS, pickle.FROZENSET):
        dispatch[code[0]] = _hashing(code, lambda self: self.stack)


def _check_hashed(values: Iterable[Any]) -> None:
    if any(isinstance(value, tuple | frozenset) and not isinstance(value, Tensor) for value in values):
        raise UserError("a dictionary has tuples for names; expected text.")


def _ordered(pairs: Iterable[tuple[Any, Any]] = ()) -> OrderedDict[Any, Any]:
    pairs = [(key, value) for key, value in pairs]
    _check_hashed(key for key, _ in pairs)
    return OrderedDict(pairs)


def read_torch_file(path: str | Path) -> Entries:
    """Reads a state dict, or a trainer's checkpoint with one, that `torch.save` wrote (a `.pth`, `.pt`, `.ckpt` or
    `.bin` file)."""
    try:
        size = Path(path).stat().st_size
        with open(path, "rb") as file:
            read = _read_zip if zipfile.is_zipfile(file) else _read_legacy
            file.seek(0)
            content, storage_of = read(file, size)
            state_dict, notes = unwrap(content, Tensor)
            return Entries(_arrays(state_dict, storage_of, size), notes)
    except UserError as error:
        raise UserError(f"Cannot read '{path}' as a PyTorch state dict: {error}") from None
    except Exception as error:  # whatever a damaged pickle or archive may raise
        raise UserError(
            f"Cannot read '{path}' as a PyTorch state dict: {type(error).__name__}: {error}."
            " The file is damaged or of another format; expected what torch.save(model.state_dict(), path) writes."
        ) from error


def _read_zip(file: io.BufferedIOBase, size: int) -> tuple[Any, Callable[[str], bytes]]:
    archive = zipfile.ZipFile(file)
    if sum(info.file_size for info in archive.infolist()) > size:
        raise UserError("its parts are compressed or overlap, which PyTorch's never do. Save it again with torch.save.")
    (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
    folder = pickled.removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise UserError("it was written on a big-endian machine; save it again on a little-endian one.")
    content = _Unpickler(io.BytesIO(archive.read(pickled))).load()
    return content, lambda key: archive.read(f"{folder}data/{key}")


class _Within(io.BufferedIOBase):
    """A file of which no more is asked than there is: Python sets aside what is asked for."""

    def __init__(self, file: io.BufferedIOBase, size: int):
        self._file, self._size = file, size

    def read(self, count: int | None = -1) -> bytes:
        return self._file.read(min(self._size if count is None or count < 0 else count, self._size))

    def readline(self, count: int | None = -1) -> bytes:
        return self._file.readline()


def _read_legacy(file: io.BufferedIOBase, size: int) -> tuple[Any, Callable[[str], bytes]]:
    within = _Within(file, size)
    magic = _Unpickler(within).load()
    if isinstance(magic, Unknown):
        raise UserError(f"it refers to {magic.refers_to}, where a state dict holds tensors only.")
    if magic != LEGACY_MAGIC:
        raise UserError("it is not what torch.save writes.")
    _protocol, system = (_Unpickler(within).load() for _ in range(2))
    if not system["little_endian"]:
        raise UserError("it was written on a big-endian machine; save it again on a little-endian one.")
    unpickler = _Unpickler(within)
    content = unpickler.load()
    storages = {}
    for key in _Unpickler(within).load():
        (count,) = struct.unpack("<q", file.read(8))
        if not 0 <= count * unpickler.itemsizes[key] <= size - file.tell():
            raise UserError(f"a storage of {count} elements reaches beyond its end; the file is damaged.")
        storages[key] = file.read(count * unpickler.itemsizes[key])
    return content, storages.__getitem__


def _arrays(tensors: Mapping[str, Tensor], storage_of: Callable[[str], bytes], size: int) -> dict[str, np.ndarray]:
    """Reads the tensors of a file of `size` bytes, which may share storages, but not make much of little."""
    last, data, left = None, b"", 8 * size + 2**24
    arrays = {}
    for name, tensor in tensors.items():
        left -= math.prod(tensor.shape) * tensor.dtype.itemsize
        if left >= 0 and tensor.storage != last:
            last, data = tensor.storage, storage_of(tensor.storage)
            left -= len(data)
        if left < 0:
            raise UserError(f"its tensors would take far more memory than its {size} bytes; the file is damaged.")
        arrays[name] = _array(tensor, data)
    return arrays


def _array(tensor: Tensor, storage: bytes) -> np.ndarray:
    data = np.frombuffer(storage, tensor.dtype)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    inside = last < data.size or not math.prod(tensor.shape)
    if min(tensor.offset, *tensor.shape, *tensor.strides, 0) < 0 or not inside:
        raise UserError("a tensor reaches beyond its storage; the file is damaged.")
    strides = [stride * data.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.shape, strides).copy()
