"""Checkpoints: the only module that knows orbax.

`workdir/checkpoints/STEP/` holds the state, the position of the data iterator and, where an evaluation came just
before, its scores. Orbax writes to a temporary folder and renames it, so that a kill leaves the last one whole.
"""

from pathlib import Path
from typing import Any

import jax

from jaxseg.checks import UserError
from jaxseg.training.state import TrainState


class Checkpoints:
    """The checkpoints of one workdir: the latest few and the best by validation mIoU."""

    def __init__(self, workdir: str | Path, *, keep: int = 2):
        import orbax.checkpoint as ocp
        from orbax.checkpoint.checkpoint_managers import preservation_policy as policy

        def score(metrics):
            return metrics["miou"]

        best = policy.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False)
        self.directory = Path(workdir).absolute() / "checkpoints"
        self._args = ocp.args
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy.AnyPreservationPolicy([policy.LatestN(max(keep, 1)), best]),
                best_fn=score,
                best_mode="max",
                cleanup_tmp_directories=True,
            ),
        )

    def save(self, step: int, state: TrainState, data: dict[str, Any], metrics: dict | None) -> None:
        """Starts writing; returns as soon as the arrays are copied off the device.

        Args:
          step: the name of the checkpoint.
          state: of the run.
          data: what `json` can hold: where the data iterator stands.
          metrics: {"miou": …} when the state has just been evaluated, else None.
        """
        items = self._args.Composite(state=self._args.StandardSave(state), data=self._args.JsonSave(data))
        if step in self._manager.all_steps():
            return  # the same bits are there already: a run that was stopped right after saving
        try:
            self._manager.save(step, args=items, metrics=metrics)
        except Exception as error:
            raise self._trouble(error) from error

    def wait(self) -> None:
        """Returns when everything is on the disk."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._trouble(error) from error

    def close(self) -> None:
        """Waits and releases the threads."""
        self.wait()
        self._manager.close()

    def latest(self) -> int | None:
        """The step of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step of the checkpoint with the highest validation mIoU, or the newest if none was evaluated."""
        return self._manager.best_step()

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Returns (state, data) of `step`, with the shapes and shardings of `like` (arrays or their shapes)."""
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None)), like
        )
        try:
            restored = self._manager.restore(
                step,
                args=self._args.Composite(state=self._args.StandardRestore(target), data=self._args.JsonRestore()),
            )
        except ValueError as error:
            raise UserError(
                f"Checkpoint {self.directory / str(step)} does not fit this config's model: {error}\n"
                "Use the config that it was written with, or another --workdir."
            ) from error
        return restored["state"], restored["data"]

    def restore_variables(self, step: int) -> dict[str, Any]:
        """Returns {"params", "batch_stats"} as evaluation uses them, without the optimiser's memory."""
        state = self._manager.restore(step, args=self._args.Composite(state=self._args.StandardRestore()))["state"]
        return {"params": state["ema"] or state["params"], "batch_stats": state["batch_stats"]}

    def resolve(self, which: str) -> int:
        """Returns the step that "best", "latest" or a number names, or raises with what there is."""
        steps = sorted(self._manager.all_steps())
        if not steps:
            raise UserError(f"No checkpoint in {self.directory}. Train first, or check the path.")
        named = {"best": self.best(), "latest": self.latest(), **{str(s): s for s in steps}}
        if which not in named:
            raise UserError(f"No checkpoint '{which}' in {self.directory}. Known: {', '.join(named)}.")
        return named[which]

    def _trouble(self, error: Exception) -> UserError:
        kept = self.latest()
        rest = f"The last good checkpoint, step {kept}, is intact" if kept else "No checkpoint was written yet"
        return UserError(
            f"Could not save to {self.directory}: {str(error).splitlines()[0] if str(error) else error!r}\n"
            f"{rest}. Free some space (or mend what the message names) and run the same command again."
        )
