"""Weights of Keras's HDF5 files, by PyTorch's names of leaves and in its axis order, as all other readers give them."""

import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxseg.blocks.conv import unfolded
from jaxseg.blocks.initializers import shapes_only
from jaxseg.checks import UserError
from jaxseg.files import short
from jaxseg.pretrained.names.source import ModulePath, Source
from jaxseg.pretrained.wrapping import Entries

# Keras's names of leaves in older files, and ours. Newer files number them, in this order.
LEAVES = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "gamma": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
NORMALIZATION = ("gamma", "beta", "moving_mean", "moving_variance")
# What Keras 3 calls the layers of a file, whatever their names in the model are: by their class, numbered from 0.
_BY_CLASS = re.compile(r"(conv2d|depthwise_conv2d|batch_normalization|dense)(?:_(\d{1,6}))?\.(\w+)")
_DEPTHWISE = re.compile(r"depthwise|dwconv")
_INNER = ("layers", "_layer_checkpoint_dependencies", "vars")  # groups of a file that are no layers


def read_keras(path: str | Path) -> Entries:
    """Returns the arrays of a `.weights.h5` file of Keras 3, or of a `.h5` file of older versions.

    A convolution "conv1" gives "conv1.weight" [o, i, h, w] and "conv1.bias", a batch normalization "weight", "bias",
    "running_mean" and "running_var". Only arrays that are inside the file are read: no link to another is followed.

    Args:
      path: of the file.

    Raises:
      UserError: the file is damaged or refers to other files; or the package `h5py` is missing.
    """
    try:
        import h5py
    except ImportError:
        raise UserError(
            f"{path} is read by the package h5py, which is not installed."
            " Install it with `pip install 'jaxseg[keras]'`."
        ) from None
    path = Path(path).expanduser()
    try:
        with h5py.File(path, "r") as file:
            found = {name: np.asarray(data) for name, data in _datasets(file, path).items()}
            older = "layer_names" in file.attrs or "model_weights" in file
    except UserError:
        raise
    except Exception as error:  # OSError, KeyError, RuntimeError and ValueError of the HDF5 library
        raise _damaged(path, error) from error
    arrays = {}
    for (layer, leaf), array in (_older(found) if older else _numbered(found)).items():
        key = f"{layer}.{LEAVES.get(leaf, leaf)}"
        if array.dtype.kind == "f":
            arrays[key] = _to_torch(array, depthwise=leaf == "depthwise_kernel" or _DEPTHWISE.search(layer) is not None)
    if not arrays:
        raise UserError(f"{path} holds no weights of layers. Expected a file of Keras's `model.save_weights`.")
    return Entries(arrays)


def name_layers(entries: Entries, encoder: nn.Module, source: Source) -> Entries:
    """Gives the layers of a file of Keras 3, which has numbers for names, the names that Keras Applications has.

    The file counts the layers of each class in the order of the model, which is the order in which the encoder calls
    its modules: the networks whose weights have names here are chains.

    Args:
      entries: of `read_keras`.
      encoder: that they are for.
      source: how Keras Applications names its modules.
    """
    if not any(_BY_CLASS.fullmatch(key) for key in entries.arrays):
        return entries
    names: dict[str, list[str]] = {"conv2d": [], "depthwise_conv2d": [], "batch_normalization": [], "dense": []}
    for module, path in _in_order(encoder.clone(depth=5)):
        conv = "depthwise_conv2d" if "depthwise" in path else "conv2d"
        names["batch_normalization" if module == "BatchNorm" else conv].append(source.key(path))
    for head in (prefix.removesuffix(".") for prefix in source.head):
        kind = "batch_normalization" if head.lower().endswith("bn") else "conv2d" if "conv" in head.lower() else "dense"
        names[kind].append(head)

    def rename(key: str) -> str:
        match = _BY_CLASS.fullmatch(key)
        if match is None or int(match[2] or 0) >= len(names[match[1]]):
            return key
        return f"{names[match[1]][int(match[2] or 0)]}.{match[3]}"

    return entries._replace(arrays={rename(key): array for key, array in entries.arrays.items()})


def _in_order(encoder: nn.Module) -> list[tuple[str, ModulePath]]:
    """The convolutions and batch normalizations of an encoder, (class, path), as they are called."""
    called: dict[ModulePath, str] = {}

    def note(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        if type(context.module).__name__ in ("Conv", "BatchNorm"):
            called.setdefault(context.module.path, type(context.module).__name__)
        return call(*arguments, **keywords)

    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    with shapes_only(), unfolded(), nn.intercept_methods(note):
        jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, train=False), image)
    return [(module, path) for path, module in called.items()]


def _datasets(file: Any, path: Path) -> dict[str, Any]:
    """The arrays of a file by their paths, each once, or a `UserError` about what is not in the file itself."""
    found: dict[str, Any] = {}

    def note(name: str | bytes, item: Any) -> None:
        if not hasattr(item, "shape"):
            return
        if isinstance(name, bytes):  # where it is no UTF-8
            raise UserError(f"{path}: the array {short(name)} has a name that is no text. The file is damaged.")
        if item.external or item.is_virtual:
            raise UserError(f"{path}, array {short(name)}: its numbers are in another file, which is not opened.")
        found[name] = item

    file.visititems(note)  # which follows no link to another file
    needed = sum(math.prod(item.shape or ()) * item.dtype.itemsize for item in found.values())
    room = 8 * path.stat().st_size + 2**24
    if needed > room:
        raise UserError(f"{path} says that it holds {needed} bytes of arrays, more than {room}. It is damaged.")
    return {name: item for name, item in found.items() if item.dtype.kind in "fiu"}


def _older(found: dict[str, np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """{(layer, leaf): array} of a file whose arrays are LAYER/LAYER/kernel:0, with other groups around and between."""
    split = {}
    for name, array in found.items():
        *groups, leaf = name.removeprefix("model_weights/").split("/")
        if groups and groups[0] != "optimizer_weights":
            split[groups[-1], leaf.partition(":")[0]] = array
    return split


def _numbered(found: dict[str, np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """{(layer, leaf): array} of a file of Keras 3, whose arrays are layers/LAYER/vars/0."""
    layers: dict[str, dict[int, np.ndarray]] = {}
    for name, array in found.items():
        groups, _, number = name.rpartition("/vars/")
        layer = ".".join(part for part in groups.split("/") if part not in _INNER)
        if number.isdecimal() and len(number) < 7 and layer and not layer.startswith("optimizer"):
            layers.setdefault(layer, {})[int(number)] = array
    split = {}
    for layer, variables in layers.items():
        numbered = [variables[number] for number in sorted(variables)]
        flat = len(numbered) == 4 and all(array.ndim == 1 for array in numbered)
        leaves = NORMALIZATION if flat else ("kernel", "bias") if numbered[0].ndim > 1 else ()
        for i, array in enumerate(numbered):
            split[layer, leaves[i] if i < len(leaves) else str(i)] = array
    return split


def _to_torch(array: np.ndarray, *, depthwise: bool) -> np.ndarray:
    """A kernel in PyTorch's axis order: [h, w, i, o] as [o, i, h, w], a depthwise [h, w, c, 1] as [c, 1, h, w].

    >>> [_to_torch(np.zeros((3, 3, 8, 1)), depthwise=depthwise).shape for depthwise in (True, False)]
    [(8, 1, 3, 3), (1, 8, 3, 3)]
    """
    if array.ndim == 4:
        return array.transpose(2, 3, 0, 1) if depthwise else array.transpose(3, 2, 0, 1)
    return array.T if array.ndim == 2 else array


def _damaged(path: Path, error: Exception) -> UserError:
    text = (str(error).strip().splitlines() or ["no message"])[0][:200]
    return UserError(
        f"{path} is no HDF5 file that can be read: {type(error).__name__}: {text}. Copy it again, or save the weights"
        " again with `model.save_weights`."
    )
