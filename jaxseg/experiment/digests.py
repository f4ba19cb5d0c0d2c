"""Digests of a checkpoint's arrays, so that one flipped bit on a disk is noticed when the checkpoint is read.

The digest of an array is a sum over its elements, each mixed with its place by a bijection. So it notices every change
of a single element, and others but for one in 2^32; and it can be added up from parts. That is what a checkpoint needs
that several processes write and one reads, or the other way round: the digest belongs to the whole array, however it is
split over devices.
"""

import dataclasses
import functools
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxseg.experiment.freeze import path_name
from jaxseg.files import read_json, short

CHUNK = 2**16  # elements that are mixed at a time, so that they stay in the processor's cache
_PLACE, _FIRST, _SECOND = np.uint32(0x9E3779B9), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)  # of MurmurHash3's end

Part = tuple[str, np.ndarray, tuple[slice, ...], tuple[int, ...]]  # name, values, where in the array, its shape


def digest(values: Any, index: tuple[slice, ...] = (), shape: tuple[int, ...] | None = None) -> int:
    """Returns the digest of an array, or of a part of one: the digests of its parts add up to that of the whole.

    Args:
      values: of the array or the part, of any type of 1, 2, 4 or 8 bytes.
      index: where the part is in the array, a slice an axis; () is the whole.
      shape: of the whole array; None if `values` is it.

    >>> whole = np.arange(12.0).reshape(3, 4)
    >>> every = slice(None)
    >>> left = digest(whole[:, :1], (every, slice(0, 1)), (3, 4))
    >>> right = digest(whole[:, 1:], (every, slice(1, 4)), (3, 4))
    >>> digest(whole) == left + right, digest(whole) == digest(whole[::-1])
    (True, False)
    """
    values = np.ascontiguousarray(values)
    shape = values.shape if shape is None else tuple(shape)
    if values.dtype.itemsize == 8:  # two words an element
        values, index, shape = values.view(np.uint32).reshape(*values.shape, 2), (*index, slice(None)), (*shape, 2)
    words = values.reshape(-1).view(f"u{min(values.dtype.itemsize, 4)}")
    places = _places(index, shape) if index and values.shape != shape else None
    total, steps = 0, np.arange(min(CHUNK, words.size), dtype=np.uint32)
    for start in range(0, words.size, CHUNK):
        chunk = words[start : start + CHUNK].astype(np.uint32)
        here = steps[: chunk.size] + np.uint32(start % 2**32) if places is None else places[start : start + CHUNK]
        chunk += here * _PLACE
        for factor, shift in ((_FIRST, 16), (_SECOND, 13), (None, 16)):
            chunk ^= chunk >> np.uint32(shift)
            if factor is not None:
                chunk *= factor
        total += int(chunk.sum(dtype=np.uint64))
    return total


def _places(index: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    """The places of a part's elements in the whole array, u32[number of elements]."""
    places = np.zeros((), np.uint32)
    for axis, (part, size) in enumerate(zip(index, shape, strict=True)):
        stride = math.prod(shape[axis + 1 :])
        along = np.arange(*part.indices(size), dtype=np.uint64) * np.uint64(stride)
        places = places[..., None] + along.astype(np.uint32)
    return places.reshape(-1)


def host_parts(tree: Any, *, copy: bool) -> list[Part]:
    """Returns what this process holds of every array of `tree`, each element in one process of the run only.

    Args:
      tree: arrays, of JAX or NumPy.
      copy: whether the parts must outlive the arrays, which the next step overwrites.
    """
    named = [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    for _, leaf in named:
        if isinstance(leaf, jax.Array):
            for piece in leaf.addressable_shards:
                if piece.replica_id == 0:
                    piece.data.copy_to_host_async()
    return [part for name, leaf in named for part in _pieces(name, leaf, copy)]


def _pieces(name: str, leaf: Any, copy: bool) -> Iterator[Part]:
    if not isinstance(leaf, jax.Array):
        if jax.process_index() == 0:
            yield name, np.array(leaf), (), np.shape(leaf)
        return
    for piece in leaf.addressable_shards:
        if piece.replica_id == 0:
            values = np.asarray(piece.data)
            # A CPU's arrays are looked at in place; what comes from another device is a copy already.
            yield name, values.copy() if copy and not values.flags.owndata else values, piece.index, leaf.shape


def add_up(parts: list[Part]) -> dict[str, int]:
    """Returns the digest of every array, of the parts that are given."""
    sums: dict[str, int] = {}
    for name, values, index, shape in parts:
        sums[name] = sums.get(name, 0) + digest(values, index, shape)
    return sums


def of_text(value: Any) -> int:
    """Returns the digest of what JSON can hold: the position of the data iterator."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def write_digests(folder: Path, parts: list[Part], position: Any, step: int) -> None:
    """Writes this process' share of the digests to a file of its own, and which checkpoint they are of."""
    shares = {name: format(total, "x") for name, total in add_up(parts).items()}
    written = {"processes": jax.process_count(), "step": step, "position": of_text(position), "arrays": shares}
    (folder / f"process_{jax.process_index()}.json").write_text(json.dumps(written))


def save_argument(parts: list[Part], position: Any, step: int) -> Any:
    """Returns the argument that lets orbax save the digests as a part of a checkpoint: whole, or not at all.

    They are computed from the host's copies in the background, while orbax writes the arrays.

    Args:
      parts: of the arrays, of `host_parts`.
      position: of the data iterator.
      step: the name of the checkpoint.
    """
    return _argument_class()(parts, position, step)


@functools.cache
def _argument_class() -> type:
    """Orbax's protocol of what it is to save: an argument and a handler of it."""
    from orbax.checkpoint import args, future, handlers

    class Handler(handlers.AsyncCheckpointHandler):
        async def async_save(self, directory: Path, args: Any) -> list[Any]:
            async def write() -> None:
                write_digests(Path(directory), args.parts, args.position, args.step)

            return [future.CommitFutureAwaitingContractedSignals(write(), name="digests")]

        def save(self, directory: Path, args: Any) -> None:
            write_digests(Path(directory), args.parts, args.position, args.step)

        def restore(self, directory: Path, args: Any = None) -> None:  # `read_digests` reads what was written
            raise NotImplementedError

    @args.register_with_handler(Handler, for_save=True, for_restore=True)
    @dataclasses.dataclass
    class Argument(args.CheckpointArgs):
        parts: list[Part]
        position: Any
        step: int

    return Argument


def read_digests(folder: Path) -> tuple[dict[str, int], int] | None:
    """Returns the digests of a checkpoint's arrays by name and that of its position; None if it was written without.

    Raises:
      ValueError: they can't be read, or are of a checkpoint of another number. (Older ones say none.)
    """
    if not folder.is_dir():
        return None
    first = read_json(folder / "process_0.json")
    if str(first.get("step", folder.parent.name)) != folder.parent.name:
        raise ValueError(f"it is a copy of checkpoint {short(first['step'])} under another number")
    sums: dict[str, int] = {}
    for process in range(first["processes"]):
        for name, share in read_json(folder / f"process_{process}.json")["arrays"].items():
            sums[name] = sums.get(name, 0) + int(share, 16)
    return sums, first["position"]


def changed(tree: Any, digests: Mapping[str, int]) -> list[str]:
    """Returns the names of the arrays of `tree` whose digest is another.

    All processes of the run must call it if they share the arrays; each may have its own on its own devices, too.
    """
    sums = add_up(host_parts(tree, copy=False))
    named = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    shared = [name for name, leaf in named.items() if not getattr(leaf, "is_fully_addressable", True)]
    if shared:
        from jax.experimental import multihost_utils

        halves = np.array([divmod(sums.get(name, 0), 2**32) for name in shared], np.uint32)
        shares = np.asarray(multihost_utils.process_allgather(halves)).astype(object)
        sums |= {name: int(sum(high * 2**32 + low for high, low in shares[:, i])) for i, name in enumerate(shared)}
    return [name for name in named if sums.get(name, 0) != digests.get(name)]
