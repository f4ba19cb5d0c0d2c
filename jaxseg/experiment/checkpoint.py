"""Checkpoints: the states of a run on the disk, the latest few and the best.

`workdir/checkpoints/STEP/` holds the state, the position of the data iterator and the digests of all of it. Orbax
writes to a temporary folder and renames it, so that a kill leaves the last one whole. Which one is the best is read off
metrics.jsonl: a state is saved before it is evaluated, so that no evaluation, however long, stands between a step and
its checkpoint. Orbax is known to this module, `reading` and `digests` only.
"""

import math
import shutil
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from jaxseg.checks import UserError
from jaxseg.experiment import devices as shard
from jaxseg.experiment.digests import host_parts, save_argument
from jaxseg.experiment.log import read_rows, say
from jaxseg.experiment.reading import Damaged, check_written, read_state, read_variables
from jaxseg.experiment.state import TrainState
from jaxseg.experiment.workdir import is_step

if TYPE_CHECKING:
    import orbax.checkpoint

# What a file system says, and what to do about it; the first words that are found decide.
REMEDIES = {
    "quota": "Your quota is used up: remove files, or name a --workdir elsewhere",
    "No space left": "Free some space, or name a --workdir on another disk",
    "the disk has": "Free some space, or name a --workdir on another disk",
    "File too large": "The limit of a file's size (ulimit -f) is too small for a checkpoint: raise it",
    "Read-only file system": "The file system can't be written to: mount it anew, or name a --workdir elsewhere",
    "ermission denied": "Give yourself the right to write there, or name a --workdir elsewhere",
    "PERMISSION_DENIED": "Give yourself the right to write there, or name a --workdir elsewhere",
    "Input/output error": "The disk or the network reports a fault: have it looked at, or name a --workdir elsewhere",
    "tale file handle": "The network file system was mounted anew or lost the folder: check that it is there",
    "No such file": "The folder was removed or renamed while the run wrote to it: leave it alone until the run ends",
}


def check_place(workdir: str | Path) -> None:
    """Raises a `UserError` for a path that orbax takes for a pattern: what it writes there can't be read again."""
    path = Path(workdir).absolute()
    if "[" in str(path):
        raise UserError(
            f"--workdir {path} has a bracket in it, which orbax takes for a pattern of file names: its checkpoints"
            " could not be read again. Name a folder without '['."
        )


class Checkpoints:
    """The checkpoints of one workdir: the latest few and the best by validation mIoU.

    Args:
      workdir: of the run.
      keep: the latest checkpoints that are kept; the best one is kept besides.
      writable: for the one process that trains, which makes the folder and clears what a kill left unfinished. Readers
        change nothing.
    """

    def __init__(self, workdir: str | Path, *, keep: int = 2, writable: bool = False):
        self.directory = Path(workdir).absolute() / "checkpoints"
        if not writable and not self.directory.is_dir():
            raise self._none()
        rows = read_rows(Path(workdir) / "metrics.jsonl")
        self.scores = {row["step"]: row.get("miou") for row in rows if row["kind"] == "eval"}
        self._manager = self._seen = None
        if writable:
            check_place(workdir)
            self._manager = self._writer(keep)

    def _writer(self, keep: int) -> "orbax.checkpoint.CheckpointManager":
        import orbax.checkpoint as ocp

        # A number without a state, of a copy that broke off, is no checkpoint; orbax would save none before it.
        hollow = [int(path.name) for path in self._numbered() if not (path / "state").is_dir()]
        shard.wait_for_all("the checkpoints are listed")
        for step in hollow:
            self._set_aside(step, "it holds no state")
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_LatestAndBest(max(keep, 1), self), cleanup_tmp_directories=True
        )
        return ocp.CheckpointManager(self.directory, options=options)

    def _numbered(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return [path for path in self.directory.iterdir() if is_step(path.name) and path.is_dir()]

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, in order."""
        return sorted(int(path.name) for path in self._numbered() if (path / "state").is_dir())

    def latest(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None if there is none."""
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """Returns the step with the highest validation mIoU; None if there is no checkpoint that has one."""
        return best_step(self.steps(), self.scores)

    # Writing

    def save(self, step: int, state: TrainState, data: dict[str, Any]) -> None:
        """Starts to write a checkpoint, and returns when the arrays have been copied from the device.

        It waits for a checkpoint that is being written, see `saving`.

        Args:
          step: the name of the checkpoint.
          state: of the run.
          data: the position of the data iterator, as JSON can hold it.
        """
        import orbax.checkpoint as ocp

        self.wait()
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.directory).free
        if needed > free:
            raise self._trouble(f"a checkpoint needs {needed / 1e6:,.1f} MB, the disk has {free / 1e6:,.1f} MB left")
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=ocp.args.JsonSave({**data, "digests": True}),
            digests=save_argument(host_parts(state, copy=True), data, step),
        )
        try:
            written = self._manager.save(step, args=items, force=True)
        except Exception as error:
            raise self._trouble(error) from error
        if not written:
            raise self._trouble(f"orbax refuses to write step {step} beside steps {self.steps()}")

    def saving(self) -> bool:
        """Returns whether a checkpoint is being written."""
        return self._manager.is_saving_in_progress()

    def check(self) -> None:
        """Raises what went wrong in the background; the first checkpoint that is complete is looked at on the disk."""
        try:
            self._manager.check_for_errors()
        except Exception as error:
            raise self._trouble(error) from error
        if self._seen is None and not self.saving() and (step := self._manager.latest_step()) is not None:
            self._seen = step
            try:
                check_written(self.directory / str(step))
            except UserError as error:
                raise self._trouble(f"what was written can't be read back: {error}") from error

    def score(self, step: int, miou: float) -> None:
        """Notes the score of a checkpoint. The one with the highest score is kept when older ones are deleted."""
        self.scores[step] = None if math.isnan(miou) else miou

    def wait(self) -> None:
        """Waits until all checkpoints are on the disk."""
        if self._manager is None:
            return
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._trouble(error) from error

    def close(self) -> None:
        """Waits as `wait` does, and ends orbax's threads."""
        self.wait()
        if self._manager is not None:
            self._manager.close()

    # Reading

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Returns the state and the data iterator's position at `step`.

        The state has the shapes and the shardings of `like`, a state of arrays or of their shapes.

        Raises:
          UserError: the checkpoint is damaged (`Damaged`), or of another model.
        """
        return read_state(self.directory / str(step), like)

    def restore_latest(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Returns what `restore` does of the newest checkpoint that is whole; None if there is no checkpoint.

        Damaged ones after it are set aside: 16 is renamed to 16.damaged.

        Raises:
          UserError: all are damaged, and nothing was renamed; or the newest is of another model.
        """
        damaged: dict[int, str] = {}
        for step in reversed(self.steps()):
            try:
                found = self.restore(step, like)
            except Damaged as error:
                damaged[step] = str(error)
                continue
            for broken, reason in damaged.items():
                self._set_aside(broken, f"{reason} Going on from {step} instead.")
            if damaged:
                self._manager.reload()
            self.scores = {at: score for at, score in self.scores.items() if at <= step}
            return found
        if damaged:
            reasons = "\n".join(f"  {reason}" for reason in damaged.values())
            raise UserError(
                f"No checkpoint of {self.directory} can be read:\n{reasons}\n"
                "Copy them again from where they are whole, or start anew with another --workdir."
            )
        return None

    def restore_variables(self, step: int) -> dict[str, Any]:
        """Returns {"params", "batch_stats"} as evaluation uses them; the optimizer's memory is not read."""
        try:
            return read_variables(self.directory / str(step))
        except Damaged as error:
            raise Damaged(f"{error} Copy it again, or name another with --checkpoint.") from error

    def load(self, which: str) -> tuple[int, dict[str, Any]]:
        """Returns the step that `which` means, see `resolve`, and its variables, see `restore_variables`.

        If "best" or "latest" is damaged, a warning says so and the next best, or the one before, is taken.
        """
        step, tried = self.resolve(which), []
        while True:
            try:
                return step, self.restore_variables(step)
            except Damaged as error:
                tried.append(step)
                rest = [s for s in self.steps() if s not in tried]
                if which not in ("best", "latest") or not rest:
                    raise
                known = best_step(rest, self.scores) if which == "best" else None
                following = max(rest) if known is None else known
                if (self.directory / str(step)).exists():  # else the run has just removed it
                    warnings.warn(f"Checkpoint {step} is damaged, {following} is taken instead: {error}")
                step = following

    def resolve(self, which: str) -> int:
        """Returns the step that "best", "latest" or a number means; a `UserError` lists the steps that there are.

        Where no checkpoint has a score, "best" is the newest one, and a warning says so.
        """
        steps = self.steps()
        if not steps:
            raise self._none()
        if which == "best" and self.best() is None:
            warnings.warn(
                f"No checkpoint in {self.directory} has a validation score in metrics.jsonl, so the best one is not"
                f" known; the newest is taken, step {steps[-1]}."
            )
        best = steps[-1] if self.best() is None else self.best()
        named = {"best": best, "latest": steps[-1], **{str(s): s for s in steps}}
        if which not in named:
            raise UserError(f"No checkpoint '{which}' in {self.directory}. Known: {', '.join(named)}.")
        return named[which]

    def _set_aside(self, step: int, reason: str) -> None:
        """Renames a damaged checkpoint, so that it is not taken for one, and says so."""
        folder = self.directory / str(step)
        names = (folder.with_name(f"{step}.damaged{n}") for n in ("", *(f".{n}" for n in range(2, 1000))))
        new = next(path for path in names if not path.exists())
        if jax.process_index() == 0:
            folder.rename(new)
        say(f"warning: checkpoint {step} is damaged and was renamed to {new.name}: {reason}")
        shard.wait_for_all(f"checkpoint {step} is set aside")

    def _none(self) -> UserError:
        return UserError(f"No checkpoint in {self.directory}. Train first, or check the path.")

    def kept(self) -> str:
        """Returns what there is to go on from, as a sentence without its full stop."""
        kept = self.latest()
        return "No checkpoint was written yet" if kept is None else f"The last good checkpoint, step {kept}, is intact"

    def _trouble(self, error: Exception | str) -> UserError:
        cause = str(error).split('": ')[-1].strip("'") or repr(error)  # tensorstore nests: where": where": what
        remedy = next((r for words, r in REMEDIES.items() if words in str(error)), "Mend what the message names")
        return UserError(
            f"Could not save to {self.directory}: {cause}.\n{self.kept()}. {remedy}, and run the same command again."
        )


def best_step(steps: Iterable[int], scores: Mapping[int, float | None]) -> int | None:
    """Returns the step with the highest score (the later one of two that are equal), or None if no step has a score.

    >>> best_step([10, 20, 30, 40], {10: 0.5, 20: 0.7, 30: 0.7, 50: 0.9})
    30
    """
    scored = [(scores[step], step) for step in steps if scores.get(step) is not None]
    return max(scored)[1] if scored else None


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
