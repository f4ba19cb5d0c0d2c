"""What is read of a checkpoint, and how it is told whether it is damaged or of another model."""

import contextlib
import errno
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxseg.checks import UserError, listing
from jaxseg.experiment import devices as shard
from jaxseg.experiment.digests import changed, of_text, read_digests
from jaxseg.experiment.event_loop import patient_loops
from jaxseg.experiment.freeze import path_name
from jaxseg.experiment.state import TrainState
from jaxseg.files import LARGEST, read_text

# What the machine says now, and may not say tomorrow: no reason to give a checkpoint up.
PASSING = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ETIMEDOUT)
PASSING_WORDS = ("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "Permission denied", "Stale file handle")


class Damaged(UserError):
    """A checkpoint that can't be read. Another one may be taken in its place."""


def read_state(folder: Path, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """Returns the state and the position of the data iterator of the checkpoint in `folder`, all of it checked.

    All processes of the run must call it.

    Args:
      folder: of the checkpoint.
      like: a state of arrays or of their shapes; the arrays that are returned have its shardings, however they were
        split over devices when they were written.

    Raises:
      Damaged: a file is missing or broken, or an array is not what was written.
      UserError: the checkpoint is whole, and of another model; or it can't be read at the moment.
    """
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None)), like)
    found, failure = None, None
    try:
        found = _read_all(folder, target)
    except UserError as error:
        failure = error
    if shard.any_process(failure is not None):
        raise failure or Damaged(f"{folder} can't be read by another process of the run.")
    state, position, digests = found
    if digests is not None and (wrong := changed(state, digests)):
        raise Damaged(f"{folder} holds other values than were written, in {listing(wrong, 3)}.")
    return state, position


def _read_all(folder: Path, target: TrainState) -> tuple[TrainState, dict[str, Any], dict[str, int] | None]:
    import orbax.checkpoint as ocp

    with_digests = True
    try:
        _check_files(folder)
        position = json.loads(read_text(folder / "data" / "metadata"))
        with_digests = position.pop("digests", False)
        digests, of_position = read_digests(folder / "digests") or (None, None)
        saved = _metadata(folder)
    except Exception as error:  # of what is in the files
        raise _trouble(folder, error) from error
    if with_digests and digests is None:
        raise Damaged(f"{folder / 'digests'} is missing.")
    if digests is not None and of_text(position) != of_position:
        raise Damaged(f"{folder / 'data'} holds another position than was written.")
    _check_fits(folder, saved, target)
    try:
        with ocp.StandardCheckpointer() as reader, patient_loops():
            return reader.restore(folder / "state", target), position, digests
    except Exception as error:  # of orbax and of what it stands on
        raise _trouble(folder, error) from error


def read_variables(folder: Path) -> dict[str, Any]:
    """Returns {"params", "batch_stats"} as evaluation uses them, on one device of this process.

    The optimizer's memory is not read, and it does not matter on how many devices, and of which kind, the run was.

    Raises:
      Damaged: as `read_state`.
    """
    import orbax.checkpoint as ocp

    state = folder / "state"
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    try:
        _check_files(folder)
        digests, _ = read_digests(folder / "digests") or (None, None)
        saved = _metadata(folder)
        wanted = {"ema": saved["ema"]} if saved["ema"] else {name: saved[name] for name in ("params", "batch_stats")}
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), wanted)
        _check_size(shapes, state)
        how = ocp.checkpoint_utils.construct_restore_args(shapes)
        with ocp.PyTreeCheckpointer() as reader, patient_loops():
            restored = reader.restore(state, args=ocp.args.PyTreeRestore(shapes, how, partial_restore=True))
    except Damaged:
        raise
    except Exception as error:  # of orbax and of what it stands on
        raise _trouble(folder, error) from error
    if digests is not None and (wrong := changed(restored, digests)):
        raise Damaged(f"{folder} holds other values than were written, in {listing(wrong, 3)}.")
    return restored["ema"] if saved["ema"] else restored


def _check_files(folder: Path) -> None:
    """Raises for what no checkpoint holds: pipes and devices, which never end, and giant descriptions of the arrays."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there")
    for path in folder.rglob("*"):
        if (path.is_symlink() and path.is_dir()) or not (path.is_dir() or path.is_file()):
            raise ValueError(f"{path.relative_to(folder)} is a link to a folder or to nowhere, a pipe or a device")
        values = path.parent.name == "d"  # what TensorStore reads in parts; orbax reads the rest whole
        if not values and path.is_file() and path.stat().st_size > LARGEST:
            raise ValueError(f"{path.relative_to(folder)} has more than {LARGEST // 2**20} MiB")


def check_written(folder: Path) -> None:
    """Raises `Damaged` if the checkpoint in `folder` can't be found again where it was just written."""
    try:
        tree = _metadata(folder)
        json.loads((folder / "data" / "metadata").read_text())
        arrays = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
        digests = read_digests(folder / "digests")
    except Exception as error:
        raise _trouble(folder, error) from error
    if digests is None or not set(digests[0]) <= set(arrays) or not (folder / "state" / "manifest.ocdbt").is_file():
        raise Damaged(f"{folder} is not whole.")


def _metadata(folder: Path) -> Any:
    """The tree of the state in a checkpoint, with the shapes of its arrays."""
    import orbax.checkpoint as ocp
    from etils import epath

    # Not of the checkpointer, which warns of a file that no state of a run has.
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler, patient_loops():
        try:
            return handler.metadata(epath.Path(folder / "state")).tree
        except (FileNotFoundError, ValueError, TypeError) as error:
            what = "the list of its arrays, in state/_METADATA and state/_sharding, is missing or broken"
            raise ValueError(f"{what} ({error})") from error


def _trouble(folder: Path, error: Exception) -> UserError:
    """The error to raise for what orbax, or what it stands on, raised."""
    text = (str(error).strip().splitlines() or ["no message"])[0][:300]
    reason = text.rstrip(".") if type(error) in (UserError, ValueError) else f"{type(error).__name__}: {text}"
    number = error.errno if isinstance(error, OSError) else None
    if number in PASSING or isinstance(error, MemoryError) or any(word in str(error) for word in PASSING_WORDS):
        return UserError(f"Checkpoint {folder} can't be read now: {reason}. Mend that, and run the same command again.")
    return Damaged(f"Checkpoint {folder} can't be read: {reason}.")


def _check_fits(folder: Path, saved: Any, target: TrainState) -> None:
    """Raises for a state of other arrays than this run's."""
    theirs, ours = _arrays(saved), _arrays(target)
    if theirs == ours:
        return
    if any(name.startswith("opt_state/") and name.endswith("/vectors") for name in theirs):
        raise UserError(
            f"Checkpoint {folder} was written by an older jaxseg, whose optimizer kept its memory in another form: this"
            " run can't go on, but it can be evaluated and predicted with. To train further, start a new workdir from"
            f" its weights: --config.model.weights={folder.parent.parent}."
        )
    differing = [
        f"{name}: {theirs.get(name, 'absent')} there, {ours.get(name, 'absent')} here"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    raise UserError(
        f"Checkpoint {folder} does not fit this config's model: {listing(differing, 5)}.\n"
        "Use the config that it was written with, or another --workdir."
    )


def _arrays(tree: Any) -> dict[str, str]:
    """The types and shapes of the arrays of a state or of its metadata, by name."""
    named = jax.tree_util.tree_leaves_with_path(tree)
    return {
        path_name(path): f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
        for path, leaf in named
        if getattr(leaf, "shape", None) is not None
    }


def _check_size(shapes: Any, folder: Path) -> None:
    """Raises for arrays of far more bytes than there are in their files: what a file lacks is read as zeros."""
    stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    if needed > 32 * stored + 2**26:
        raise Damaged(
            f"Checkpoint {folder} holds {stored / 1e6:,.1f} MB for arrays of {needed / 1e6:,.1f} MB: it is not whole."
            " Copy it again, or name another with --checkpoint."
        )
