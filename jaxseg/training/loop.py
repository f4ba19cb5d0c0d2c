"""The training run: from a config and a workdir to checkpoints, scores and pictures; the same call resumes."""

import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxseg.checks import Interrupted, UserError
from jaxseg.data import pipeline
from jaxseg.evaluate import Evaluation, Evaluator
from jaxseg.models import init
from jaxseg.training import experiment as experiments
from jaxseg.training import shard
from jaxseg.training.checkpoint import Checkpoints
from jaxseg.training.interrupt import Interrupts
from jaxseg.training.log import Log, environment, progress_bar, say
from jaxseg.training.optim import make_optimizer, make_schedule
from jaxseg.training.state import create_state, eval_variables
from jaxseg.training.step import make_train_step


def train(config: ConfigDict, workdir: str | Path) -> dict[str, float]:
    """Trains what `config` describes, in `workdir`; returns the last validation scores.

    Called again with the same workdir it goes on from the latest checkpoint, to the same bits.

    Args:
      config: of `jaxseg.config.default_config`.
      workdir: gets config.json, dataset.json, environment.json, metrics.jsonl, tensorboard/, checkpoints/,
        pictures/ and curves.png.

    Raises:
      UserError: what is wrong and what to do, for everything a user can mend.
      Interrupted: after Ctrl-C or SIGTERM, when the state is saved.
    """
    workdir = Path(workdir)
    experiments.enable_compilation_cache(config.train.compilation_cache)
    experiment = experiments.build(config)
    mesh = shard.make_mesh(config.train.devices)
    shard.check_batch_size(config.data.batch_size, mesh)
    schedule = make_schedule(config.optim, experiment.steps)
    experiments.claim_workdir(config, experiment.dataset, workdir)
    checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
    batches = _batches(experiment)
    state, tx = _initial_state(experiment, schedule, checkpoints.latest() is not None)
    if checkpoints.latest() is not None:
        state, data = checkpoints.restore(checkpoints.latest(), state)
        batches.set_state(data["iterator"])
    state = shard.replicate(state, mesh)
    start = int(state.step)
    log = Log(workdir, resume_step=start, tensorboard=config.log.tensorboard)
    if not start:
        (workdir / "environment.json").write_text(json.dumps(environment(), indent=1) + "\n")
    _announce(experiment, state, mesh, workdir, start)
    train_step = make_train_step(
        experiment.model,
        tx,
        config,
        mesh,
        ignore=experiment.dataset.ignore,
        mean=experiment.mean,
        std=experiment.std,
    )
    try:
        return _run(experiment, mesh, state, batches, train_step, schedule, checkpoints, log, workdir)
    finally:
        log.close()
        checkpoints.close()


def _run(experiment, mesh, state, batches, train_step, schedule, checkpoints, log, workdir):
    """The loop itself: step, log, evaluate, save."""
    config, steps = experiment.config, experiment.steps
    start = int(state.step)
    evaluator = Evaluator(experiment, mesh)
    pending: list[dict[str, Any]] = []
    since = time.perf_counter()
    scores = _last_scores(log)
    bar = progress_bar(range(start, steps), initial=start, total=steps, desc="train", unit="step")
    with Interrupts() as interrupts, bar:
        for step in bar:
            state, metrics = train_step(state, shard.shard_batch(next(batches), mesh))
            pending.append(metrics)
            done = step + 1
            evaluating = done % experiment.eval_every == 0 or done == steps
            saving = evaluating or done % config.checkpoint.every == 0 or interrupts.received
            if saving or done % config.log.every == 0:
                row = _drain(pending, done, checkpoints)
                speed = len(pending) * config.data.batch_size / (time.perf_counter() - since)
                update = (done - 1) // config.optim.accumulate
                log.write("train", done, **row, lr=float(schedule(update)), images_per_s=speed)
                shown = {"loss": f"{row['loss']:.4f}", "images_per_s": f"{speed:.1f}", **_shown(scores)}
                bar.set_postfix(shown, refresh=False)
                pending.clear()
                since = time.perf_counter()
            if evaluating and not interrupts.received:
                evaluation = _evaluate(experiment, evaluator, state, log, done, workdir)
                scores = evaluation.scores
                since = time.perf_counter()
            else:
                evaluating = False
            if saving:
                metrics = {"miou": float(np.nan_to_num(scores["miou"]))} if evaluating else None
                checkpoints.save(done, state, {"iterator": batches.get_state()}, metrics)
            if interrupts.received:
                checkpoints.wait()
                raise Interrupted(
                    f"Stopped at step {done} of {steps}; checkpoint {done} is saved in {checkpoints.directory}."
                    " Run the same command to go on.",
                    code=128 + interrupts.received,
                )
    checkpoints.wait()
    from jaxseg import visualize

    visualize.curves(log.rows, workdir / "curves.png")
    best = checkpoints.best()
    say(f"Done: {steps} steps, last val mIoU {scores['miou']:.4f}, best checkpoint at step {best}. See {workdir}.")
    return scores


def _initial_state(experiment, schedule, resuming):
    """Returns (state, tx); when a checkpoint will replace the values, no pretrained weights are read."""
    config = experiment.config
    variables = init(experiment.model, jax.random.key(config.seed), image_size=tuple(config.data.crop))
    if config.model.encoder_weights and not resuming:
        from jaxseg.pretrained import load_encoder

        encoder = load_encoder(config.model.encoder, config.model.encoder_weights)
        for collection, values in encoder.items():
            variables[collection]["encoder"] = values
    tx = make_optimizer(config.optim, schedule, variables["params"])
    return create_state(variables, tx, ema=config.optim.ema > 0), tx


def _batches(experiment):
    config, dataset = experiment.config, experiment.dataset
    processes = jax.process_count()
    return pipeline.train_iterator(
        dataset.splits[config.data.train_split],
        canvas=tuple(config.data.canvas),
        batch_size=config.data.batch_size // processes,
        seed=config.seed,
        ignore=dataset.ignore,
        num_classes=dataset.num_classes,
        workers=config.data.workers,
        shard=(jax.process_index(), processes),
    )


def _drain(pending, done, checkpoints):
    """Brings the metrics of the last steps to the host; refuses to go on from a loss that is not a number."""
    rows = jax.device_get(pending)
    for step, row in enumerate(rows, done - len(rows) + 1):
        bad = [name for name in ("loss", "grad_norm") if not math.isfinite(row[name])]
        if bad:
            latest = checkpoints.latest()
            kept = f"Checkpoint {latest} is from before it" if latest else "There is no checkpoint from before it"
            raise UserError(
                f"Training stopped at step {step}: {bad[0]} is {row[bad[0]]}. {kept}; nothing was saved since.\n"
                "Try a smaller config.optim.lr, config.optim.warmup_steps=500 or config.optim.clip_norm=1.0,"
                " in a new workdir; with bfloat16, try config.model.dtype=float32."
            )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _evaluate(experiment, evaluator, state, log, step, workdir) -> Evaluation:
    """Scores the validation split, logs the numbers and draws the grid."""
    from jaxseg import visualize

    config, dataset = experiment.config, experiment.dataset
    split = config.data.eval_split
    began = time.perf_counter()
    count = len(dataset.splits[split])
    evaluation = evaluator(
        shard.localize(eval_variables(state), evaluator.mesh),
        split,
        pictures=config.log.pictures,
        progress=lambda records: progress_bar(records, total=count, desc=f"eval {split}", leave=False),
    )
    scores = evaluation.scores
    numbers = {name: value for name, value in scores.items() if isinstance(value, float)}
    numbers |= {f"iou/{name}": float(v) for name, v in zip(dataset.classes, scores["iou"], strict=True)}
    log.write("eval", step, loss=evaluation.loss, seconds=time.perf_counter() - began, **numbers)
    if evaluation.samples and jax.process_index() == 0:
        path = workdir / "pictures" / f"{split}_{step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        visualize.prediction_grid(
            evaluation.samples,
            palette=dataset.palette,
            classes=dataset.classes,
            path=path,
            ignore=dataset.ignore,
        )
        log.picture(f"{split}/predictions", path, step)
    return evaluation


def _last_scores(log):
    rows = [row for row in log.rows if row["kind"] == "eval"]
    return {"miou": rows[-1]["miou"] if rows and rows[-1]["miou"] is not None else math.nan}


def _shown(scores):
    return {} if math.isnan(scores["miou"]) else {"val_miou": f"{scores['miou']:.4f}"}


def _announce(experiment, state, mesh, workdir, start):
    c, data = experiment.config, experiment.dataset
    parameters = sum(p.size for p in jax.tree.leaves(state.params))
    sizes = " + ".join(str(len(data.splits[split])) for split in (c.data.train_split, c.data.eval_split))
    devices = f"{mesh.size} {jax.default_backend()} device{'s' * (mesh.size > 1)}"
    say(
        f"{c.model.name} / {c.model.encoder}, {parameters / 1e6:.2f} M parameters, {c.model.dtype};"
        f" {data.name}: {sizes} pictures, {data.num_classes} classes;"
        f" {experiment.steps} steps of {c.data.batch_size} on {devices} -> {workdir}"
    )
    if start:
        say(f"Going on from checkpoint {start}.")
    else:
        say("The first step compiles the program; that takes a while, once.")
