"""The training run: from a config and a workdir to checkpoints, scores and images; the same call resumes."""

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxseg.checks import Interrupted, UserError, lookup
from jaxseg.data import pipeline
from jaxseg.evaluation.evaluator import Evaluator, options_of
from jaxseg.experiment import build as experiments
from jaxseg.experiment import devices as shard
from jaxseg.experiment.checkpoint import Checkpoints, check_place
from jaxseg.experiment.claim import Claim, claim_workdir
from jaxseg.experiment.lock import locked
from jaxseg.experiment.log import Log, progress_bar, say, train_bar, train_line
from jaxseg.experiment.state import TrainState, eval_variables
from jaxseg.experiment.workdir import check_workdir, enable_compilation_cache
from jaxseg.trained import of_experiment
from jaxseg.training.agreement import Agreement
from jaxseg.training.figures import Figures
from jaxseg.training.interrupt import Interrupts
from jaxseg.training.memory import check_memory, out_of_memory, what_to_lower
from jaxseg.training.preflight import check_forward
from jaxseg.training.rows import Rows
from jaxseg.training.saving import Saving
from jaxseg.training.start import announce, initial_state, make_batches
from jaxseg.training.step import TrainStep, make_train_step


def train(config: ConfigDict, workdir: str | Path, *, accept_data: bool = False) -> dict[str, Any]:
    """Trains what `config` describes in the folder `workdir`, and returns the last validation scores.

    Called again with the same workdir, it continues from the latest checkpoint and gives exactly the same numbers as a
    run that was never stopped.

    Args:
      config: of `jaxseg.config.default_config`.
      workdir: gets config.json, dataset.json, environment.json, metrics.jsonl, tensorboard/, checkpoints/,
        images/ and curves.png.
      accept_data: go on with data that is not what the run began with; dataset.json then tells both.

    Raises:
      UserError: something that a user can repair is wrong; the message says what, and what to do.
      Interrupted: Ctrl-C or another signal asked the run to end; the state has been saved.
    """
    workdir = check_workdir(workdir)
    check_place(workdir)
    enable_compilation_cache(config.train.compilation_cache)
    experiment = experiments.build(config, splits=(config.data.train_split, config.data.eval_split), workdir=workdir)
    steps, eval_every = experiments.count_steps(experiment)
    mesh = shard.make_mesh(config.train.devices, config.train.fsdp)
    shard.check_batch_size(config.data.batch_size, mesh)
    schedule = experiments.make_schedule(config, steps)
    check_forward(experiment)
    with locked(workdir):
        claim = claim_workdir(config, experiment.dataset, workdir, experiment.preprocessing, accept_data=accept_data)
        return _run(experiment, mesh, claim, schedule, steps, eval_every)


def _run(
    experiment: experiments.Experiment, mesh: Mesh, claim: Claim, schedule: optax.Schedule, steps: int, eval_every: int
) -> dict[str, Any]:
    """Starts a run or takes it up again, and sees it to its end."""
    config, seen, workdir = experiment.config, experiment.preprocessing, claim.workdir
    checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep, writable=True)
    batches = make_batches(experiment)
    state, tx = initial_state(experiment, mesh, schedule, checkpoints.latest() is not None)
    if (found := checkpoints.restore_latest(state)) is not None:
        state, data = found
        batches.set_state(data["iterator"])
    start = int(state.step)
    claim.check_end(start, steps)
    log = Log(workdir, resume_step=start, tensorboard=config.log.tensorboard)
    announce(experiment, state, mesh, workdir, start, steps)
    for sentence in claim.sentences(start, steps, schedule):
        say(f"note: {sentence}")
    if start == steps:  # no step will be made that claims the workdir
        claim.write(start)
    evaluator = Evaluator(of_experiment(experiment, {}), experiment.dataset, mesh, **options_of(config))
    figures = Figures()
    run = Run(experiment, mesh, workdir, steps, eval_every, schedule, checkpoints, log, evaluator, claim, figures)
    train_step = make_train_step(
        experiment.model,
        tx,
        experiments.make_loss(config),
        augment_fn=experiments.make_augment(
            config, ignore=experiment.dataset.ignore, mean=seen.mean, std=seen.std, bands=seen.bands
        ),
        mesh=mesh,
        state_sharding=shard.state_sharding(state, mesh) if config.train.fsdp > 1 else None,
        seed=config.seed,
        ema_decay=config.optim.ema or None,
        freeze=tuple(config.optim.freeze),
        grad_norm=config.log.grad_norm,
        remat=config.train.remat,
        norm_parts=lookup({"global": 1, "device": mesh.size}, config.train.batch_norm, "config.train.batch_norm"),
    )
    try:
        return _loop(run, state, batches, train_step)
    finally:
        figures.close()
        log.close()
        checkpoints.close()


@dataclasses.dataclass(frozen=True)
class Run:
    """What the loop needs and does not change."""

    experiment: experiments.Experiment
    mesh: Mesh
    workdir: Path
    steps: int  # of the whole run
    eval_every: int  # steps
    schedule: optax.Schedule  # update -> learning rate
    checkpoints: Checkpoints
    log: Log
    evaluator: Evaluator
    claim: Claim  # written when the first step is done: a start that fails before leaves the workdir as it was
    figures: Figures


def _loop(run: Run, state: TrainState, batches: pipeline.TrainIterator, train_step: TrainStep) -> dict[str, Any]:
    """The loop itself: step, log, save, evaluate."""
    config, checkpoints, steps = run.experiment.config, run.checkpoints, run.steps
    start = int(state.step)
    saver = Saving(checkpoints, minutes=config.checkpoint.minutes, every=config.checkpoint.every)
    if start and _is_due(run, start) and start not in checkpoints.scores:
        _evaluate(run, state, start)  # it was saved, and stopped before its evaluation
    bar = train_bar(range(start, steps), initial=start, total=steps)
    rows = Rows(
        *(run.log, checkpoints, run.schedule),
        batch_size=config.data.batch_size,
        accumulate=config.optim.accumulate,
        written=lambda loss, speed: bar.set_postfix_str(train_line(loss, speed, _last_score(run)), refresh=False),
    )
    agreement = Agreement(config.log.every)
    with Interrupts() as interrupts, bar, out_of_memory(lambda: _lower(run)):
        for step in bar:
            with _saved_first(run, state, step, rows, batches, started=step > start):
                batch = shard.shard_batch(next(batches), run.mesh)
            if step == start:
                train_step = _compiled(run, train_step, state, batch)
            state, metrics = train_step(state, batch)
            done = step + 1
            if step == start:
                jax.block_until_ready(metrics)
                run.claim.write(start)
            rows.add(done, metrics)
            ends_row = done % config.log.every == 0
            stopping, late = agreement(done, interrupts.received is not None, saver.late())
            evaluating = _is_due(run, done)
            saving = saver.due(done, late=late and ends_row) or evaluating or stopping
            if saving or ends_row or saver.by_step(done):
                rows.end(done)
                if saving:  # no state is saved before it is known that its loss is a number
                    rows.flush()
                checkpoints.check()
            # A checkpoint that is being written is not waited for: the device evaluates meanwhile.
            later = saving and evaluating and not stopping and shard.any_process(checkpoints.saving())
            if saving and not later:
                saver.save(done, state, batches.get_state())
            if stopping:
                checkpoints.wait()
                raise Interrupted(
                    f"Stopped at step {done} of {steps}; checkpoint {done} is saved in {checkpoints.directory}."
                    " Run the same command to go on.",
                    code=128 + (interrupts.received or signal.SIGTERM),  # of another process, it is not known
                )
            if evaluating:
                try:
                    _evaluate(run, state, done)
                finally:
                    if later:
                        saver.save(done, state, batches.get_state())
                rows.restart_clock()
        checkpoints.wait()  # a signal must not end the run within its last save
        bar.close()
        return _finish(run, redraw=start == steps)


def _compiled(run: Run, train_step: TrainStep, state: TrainState, batch: dict[str, jax.Array]) -> TrainStep:
    """Returns the step as a compiled program, of which it is known before it runs how much memory it takes."""
    compiled = train_step.lower(state, batch).compile()
    check_memory(compiled, list(run.mesh.devices.flat), run.experiment.config)
    return compiled


def _lower(run: Run) -> str:
    """What to do about a device without enough memory, as sentences."""
    return f"{what_to_lower(run.experiment.config)}\n{run.checkpoints.kept()}."


@contextlib.contextmanager
def _saved_first(
    run: Run, state: TrainState, step: int, rows: Rows, batches: pipeline.TrainIterator, *, started: bool
) -> Iterator[None]:
    """Saves the state after `step` if the block raises, as it is whole: only the next batch could not be read."""
    try:
        yield
    except Exception as error:
        if not started or step in run.checkpoints.steps():
            raise  # there is nothing new to save
        if jax.process_count() > 1:
            # All processes would have to save, and the others are in the next step already, where they wait for this.
            if isinstance(error, UserError):
                raise UserError(f"{error}\n{run.checkpoints.kept()}; start all processes again to go on.") from error
            raise
        rows.check(step)
        run.checkpoints.save(step, state, {"iterator": batches.get_state()})
        run.checkpoints.wait()
        saved = f"The state before it is saved, as checkpoint {step}: mend that, and run the same command to go on."
        if isinstance(error, UserError):
            raise UserError(f"{error}\n{saved}") from error
        error.add_note(saved)
        raise


def _is_due(run: Run, step: int) -> bool:
    return step % run.eval_every == 0 or step == run.steps


def _finish(run: Run, *, redraw: bool) -> dict[str, Any]:
    """Waits for the figures and says what came of it; draws the curves if no evaluation did, with `redraw`."""
    from jaxseg import visualize

    if redraw and jax.process_index() == 0:
        run.figures.draw(visualize.curves, list(run.log.rows), run.workdir / "curves.png")
    run.figures.wait()
    best, scores = run.checkpoints.best(), run.checkpoints.scores
    last = [row for row in run.log.rows if row["kind"] == "eval"][-1]
    found = "" if best is None else f", best {_number(scores[best])} at step {best}"
    say(f"Done: {run.steps} steps, last val mIoU {_number(last['miou'])}{found}. See {run.workdir}.")
    return last


def _evaluate(run: Run, state: TrainState, step: int) -> None:
    """Scores the validation split, logs the numbers and has the figures drawn."""
    config, dataset = run.experiment.config, run.experiment.dataset
    split, trained = config.data.eval_split, run.evaluator.trained
    began = time.perf_counter()
    count = len(dataset.splits[split])
    remedy = f"Lower config.eval.batch_size={config.eval.batch_size}, which may change while a run goes on"
    with out_of_memory(lambda: f"{remedy}.\n{run.checkpoints.kept()}."):
        evaluation = run.evaluator(
            split,
            variables=shard.localize(eval_variables(state), run.evaluator.mesh),
            images=config.log.images,
            step=step,
            progress=lambda records: progress_bar(records, total=count, desc=f"eval {split}", leave=False),
        )
    scores = evaluation.scores
    numbers = {name: value for name, value in scores.items() if isinstance(value, float)}
    numbers |= {f"iou/{name}": float(v) for name, v in zip(trained.classes, scores["iou"], strict=True)}
    if evaluation.unreadable:
        numbers |= {"images": evaluation.images, "unreadable": evaluation.unreadable}
    run.log.write("eval", step, loss=evaluation.loss, seconds=time.perf_counter() - began, **numbers)
    run.checkpoints.score(step, scores["miou"])
    if step == run.steps and (lost := evaluation.never_predicted(trained.classes)):
        say(lost)
    if jax.process_index() == 0:
        run.figures.draw(_draw, run, list(run.log.rows), evaluation.samples, step)


def _draw(run: Run, rows: list[dict[str, Any]], samples: list[dict[str, Any]], step: int) -> None:
    """Draws the curves so far, and the grid of an evaluation's images."""
    from jaxseg import visualize

    visualize.curves(rows, run.workdir / "curves.png")
    if not samples:
        return
    trained = run.evaluator.trained
    path = run.workdir / "images" / f"{run.experiment.config.data.eval_split}_{step:06d}.png"
    path.parent.mkdir(exist_ok=True)
    visualize.prediction_grid(
        samples, palette=trained.palette, classes=trained.classes, path=path, ignore=trained.ignore
    )
    run.log.image("eval/predictions", path, step)


def _last_score(run: Run) -> float | None:
    """The mIoU of the last evaluation, None before the first."""
    scores = run.checkpoints.scores
    return scores[max(scores)] if scores else None


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
