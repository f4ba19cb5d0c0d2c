"""Checkpoints: the only module that knows orbax.

`workdir/checkpoints/STEP/` holds the state and the position of the data iterator. Orbax writes to a temporary folder
and renames it, so that a kill leaves the last one whole. Which one is the best is read off metrics.jsonl: a state is
saved before it is evaluated, so that no evaluation, however long, stands between a step and its checkpoint.
"""

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from jaxseg.checks import UserError
from jaxseg.experiment.freeze import path_name
from jaxseg.experiment.log import read_rows
from jaxseg.experiment.state import TrainState

if TYPE_CHECKING:
    import orbax.checkpoint


class Checkpoints:
    """The checkpoints of one workdir: the latest few and the best by validation mIoU.

    Args:
      workdir: of the run.
      keep: the latest checkpoints that are kept; the best one is kept besides.
      writable: for the one process that trains, which makes the folder and clears what a kill left unfinished. Readers
        change nothing.
    """

    def __init__(self, workdir: str | Path, *, keep: int = 2, writable: bool = False):
        import orbax.checkpoint as ocp

        self.directory = Path(workdir).absolute() / "checkpoints"
        if not writable and not self.directory.is_dir():
            raise self._none()
        self._rows = Path(workdir) / "metrics.jsonl"
        self.scores = {row["step"]: row.get("miou") for row in read_rows(self._rows) if row["kind"] == "eval"}
        self._args = ocp.args
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_LatestAndBest(max(keep, 1), self), cleanup_tmp_directories=writable
            ),
        )

    def save(self, step: int, state: TrainState, data: dict[str, Any]) -> None:
        """Starts to write a checkpoint, and returns when the arrays have been copied from the device.

        Args:
          step: the name of the checkpoint.
          state: of the run.
          data: the position of the data iterator, as JSON can hold it.
        """
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.directory).free
        if needed > free:
            raise self._trouble(f"a checkpoint needs {needed / 1e6:,.1f} MB, the disk has {free / 1e6:,.1f} MB left")
        items = self._args.Composite(state=self._args.StandardSave(state), data=self._args.JsonSave(data))
        try:
            self._manager.save(step, args=items)
        except Exception as error:
            raise self._trouble(error) from error

    def score(self, step: int, miou: float) -> None:
        """Notes the score of a checkpoint. The one with the highest score is kept when older ones are deleted."""
        self.scores[step] = None if math.isnan(miou) else miou

    def wait(self) -> None:
        """Waits until all checkpoints are on the disk."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._trouble(error) from error

    def close(self) -> None:
        """Waits as `wait` does, and ends orbax's threads."""
        self.wait()
        self._manager.close()

    def latest(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None if there is none."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Returns the step with the highest validation mIoU, or the newest one if none was evaluated."""
        return best_step(self._manager.all_steps(), self.scores) or self.latest()

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Returns the state and the data iterator's position at `step`.

        The state has the shapes and the shardings of `like`, a state of arrays or of their shapes.
        """
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None)), like
        )
        try:
            restored = self._manager.restore(
                step,
                args=self._args.Composite(state=self._args.StandardRestore(target), data=self._args.JsonRestore()),
            )
        except ValueError as error:
            self._check_layout(step)
            raise UserError(
                f"Checkpoint {self.directory / str(step)} does not fit this config's model: {error}\n"
                "Use the config that it was written with, or another --workdir."
            ) from error
        return restored["state"], restored["data"]

    def _check_layout(self, step: int) -> None:
        """Raises for a state of before the optimizer's memory had the paths of the parameters.

        It had the biases and norms of each part of the model in one array: "encoder/vectors", "decoder/vectors", …
        """
        saved = self._manager.restore(step, args=self._args.Composite(state=self._args.StandardRestore()))["state"]
        names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(saved["opt_state"])]
        if any(name.endswith("/vectors") for name in names):
            raise UserError(
                f"Checkpoint {self.directory / str(step)} was written by an older jaxseg, whose optimizer kept its"
                " memory in another form: this run can't go on, but it can be evaluated and predicted with. To train"
                f" further, start a new workdir from its weights: --config.model.weights={self.directory.parent}."
            )

    def restore_variables(self, step: int) -> dict[str, Any]:
        """Returns {"params", "batch_stats"} as evaluation uses them; the optimizer's memory is not read."""
        import orbax.checkpoint as ocp

        folder = self.directory / str(step) / "state"
        reader = ocp.PyTreeCheckpointer()
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        try:
            saved = reader.metadata(folder).item_metadata.tree
            wanted = saved["ema"] or {"params": saved["params"], "batch_stats": saved["batch_stats"]}
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), wanted)
            _check_size(shapes, folder)
            wanted = {"ema": shapes} if saved["ema"] else shapes
            arguments = ocp.args.PyTreeRestore(
                wanted, ocp.checkpoint_utils.construct_restore_args(wanted), partial_restore=True
            )
            restored = reader.restore(folder, args=arguments)
        except UserError:
            raise
        except Exception as error:  # of orbax and of what it stands on
            text = (str(error).strip().splitlines() or ["no message"])[0][:300]
            raise UserError(
                f"Checkpoint {folder} can't be read: {type(error).__name__}: {text}. Copy it again, or name another"
                " with --checkpoint."
            ) from error
        return restored["ema"] if saved["ema"] else restored

    def resolve(self, which: str) -> int:
        """Returns the step that "best", "latest" or a number means; a `UserError` lists the steps that there are."""
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise self._none()
        named = {"best": self.best(), "latest": self.latest(), **{str(s): s for s in steps}}
        if which not in named:
            raise UserError(f"No checkpoint '{which}' in {self.directory}. Known: {', '.join(named)}.")
        return named[which]

    def _none(self) -> UserError:
        return UserError(f"No checkpoint in {self.directory}. Train first, or check the path.")

    def _trouble(self, error: Exception | str) -> UserError:
        kept = self.latest()
        rest = f"The last good checkpoint, step {kept}, is intact" if kept else "No checkpoint was written yet"
        cause = str(error).split('": ')[-1].strip("'") or repr(error)  # tensorstore nests: where": where": what
        return UserError(
            f"Could not save to {self.directory}: {cause}.\n"
            f"{rest}. Free some space (or mend what the message names) and run the same command again."
        )


def best_step(steps: Iterable[int], scores: Mapping[int, float | None]) -> int | None:
    """Returns the step with the highest score (the later one of two that are equal), or None if no step has a score.

    >>> best_step([10, 20, 30, 40], {10: 0.5, 20: 0.7, 30: 0.7, 50: 0.9})
    30
    """
    scored = [(scores[step], step) for step in steps if scores.get(step) is not None]
    return max(scored)[1] if scored else None


def _check_size(shapes: Any, folder: Path) -> None:
    """Raises for arrays of far more bytes than there are in their files: what a file lacks is read as zeros."""
    stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    if needed > 32 * stored + 2**26:
        raise UserError(
            f"Checkpoint {folder} holds {stored / 1e6:,.1f} MB for arrays of {needed / 1e6:,.1f} MB: it is not whole."
            " Copy it again, or name another with --checkpoint."
        )


class _LatestAndBest:
    """Orbax's protocol of a preservation policy: which checkpoints to keep when one more was saved."""

    def __init__(self, keep: int, checkpoints: Checkpoints):
        self.keep, self.checkpoints = keep, checkpoints

    def should_preserve(
        self,
        checkpoints: Sequence["orbax.checkpoint.checkpoint_managers.PolicyCheckpointInfo"],
        *,
        context: "orbax.checkpoint.checkpoint_managers.PreservationContext",
    ) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*sorted(steps)[-self.keep :], best_step(steps, self.checkpoints.scores)}
        return [step in kept for step in steps]
