"""Does the loop feed the device? Images per second of the reading alone, of the step alone, and of `jaxseg train`.

What the loop makes of the step's own speed is how much of the time the device computes; the rest it waits, mostly for
images. Reading alone says whether the pipeline could deliver more.
"""

import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxseg.bench.cases import Case
from jaxseg.bench.program import make_config
from jaxseg.bench.timing import cores, machine
from jaxseg.checks import UserError
from jaxseg.experiment import build as experiments
from jaxseg.experiment.devices import make_mesh, shard_batch
from jaxseg.experiment.log import read_rows
from jaxseg.training.loop import train
from jaxseg.training.start import initial_state, make_batches
from jaxseg.training.step import make_train_step

MADE = 128  # images of a folder that is made here
WARMUP = 3  # steps and batches before the clock starts
ROWS = 3  # of the loop, that count


def make_folder(root: Path, count: int, size: tuple[int, int], classes: int = 21, seed: int = 0) -> None:
    """Makes a data set of JPEG files with noise and blobs, and labels in PNG, as `folder` reads it.

    Args:
      root: new folder, for train and val.
      count: images of the training split; the validation split has a few of them.
      size: (height, width) in pixels.
      classes: of the labels.
      seed: of the images.
    """
    from PIL import Image

    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
    names = {"classes": [f"class {i}" for i in range(classes)]}
    (root / "classes.json").write_text(json.dumps(names))
    height, width = size

    def make(i: int) -> None:
        random = np.random.default_rng((seed, i))
        coarse = random.integers(0, 256, (max(height // 16, 2), max(width // 16, 2), 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + random.integers(-6, 7, (height, width, 3)), 0, 255).astype(np.uint8)
        blobs = random.integers(0, classes, (max(height // 32, 2), max(width // 32, 2)), np.uint8)
        label = Image.fromarray(blobs).resize((width, height), Image.Resampling.NEAREST)
        for split in ("train", "val") if i < 4 else ("train",):
            Image.fromarray(noisy).save(root / split / "images" / f"{i:05d}.jpg", quality=90)
            label.save(root / split / "labels" / f"{i:05d}.png")

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(make, range(count)))


def measure_loop(
    case: Case, root: str | Path | None, *, steps: int = 30, workers: int = 0, threads: int = 0
) -> dict[str, Any]:
    """Times the reading alone, the step alone and the loop of `jaxseg train`, on one folder.

    Args:
      case: the model, the size that it sees, and the batch.
      root: of a data set that `folder` reads; None makes one of JPEGs as large as the case's images, and removes it.
      steps: batches of each of the three.
      workers: processes that read, see config.data.workers.
      threads: that read, see config.data.threads.

    Returns:
      "reading", "step" and "loop", in images a second; "waiting", the part of the loop's time in which the device could
      have computed more: 1 - loop / step; "processor", the part of all cores' time that the loop used; and what was
      measured where.
    """
    with tempfile.TemporaryDirectory() as scratch:
        made = root is None
        folder = Path(scratch) / "made" if root is None else Path(root)
        if made:
            make_folder(folder, max(MADE, case.batch), case.size)
        config = _config(case, folder, steps, workers, threads)
        experiment = experiments.build(config, splits=("train",))
        found: dict[str, Any] = {"case": case.title(), "machine": machine(), "steps": steps, "workers": workers}
        found |= {"threads": threads or cores(), "folder": "made here" if made else str(folder)}
        found["images"] = len(experiment.dataset.splits["train"])
        found["reading"] = _reading(experiment, steps)
        found["step"] = _step(experiment, steps)
        found |= _loop(config, Path(scratch) / "run")
    found["waiting"] = 1 - found["loop"] / found["step"]
    return found


def _config(case: Case, folder: Path, steps: int, workers: int, threads: int) -> ConfigDict:
    if case.in_channels != 3:
        raise UserError("--loop reads images of three bands. Choose another case.")
    config = make_config(case)
    config.data.update(name="folder", root=str(folder), workers=workers, threads=threads)
    every = max(steps // ROWS, 1)  # steps between rows, each of which waits for the device
    config.train.steps = every * (1 + ROWS)  # the first row has the compilation
    config.log.update(every=every, tensorboard=False, images=0)
    config.eval.every = config.train.steps
    config.checkpoint.minutes = 0.0
    return config


def _batches(experiment: experiments.Experiment) -> Iterator[dict[str, np.ndarray]]:
    batches = make_batches(experiment)
    try:
        yield from batches
    finally:
        batches.close()


def _reading(experiment: experiments.Experiment, steps: int) -> float:
    """Images a second that the pipeline delivers to nobody who computes."""
    batch = experiment.config.data.batch_size
    with contextlib.closing(_batches(experiment)) as batches:
        for _ in range(WARMUP):
            next(batches)
        began = time.perf_counter()
        for _ in range(steps):
            next(batches)
        return steps * batch / (time.perf_counter() - began)


def _step(experiment: experiments.Experiment, steps: int) -> float:
    """Images a second of the step with one batch that lies on the device."""
    config, seen = experiment.config, experiment.preprocessing
    mesh = make_mesh(config.train.devices)
    state, tx = initial_state(experiment, mesh, experiments.make_schedule(config, config.train.steps), resuming=False)
    augment_fn = experiments.make_augment(
        config, ignore=experiment.dataset.ignore, mean=seen.mean, std=seen.std, bands=seen.bands
    )
    options = {"mesh": mesh, "seed": config.seed, "grad_norm": config.log.grad_norm}
    train_step = make_train_step(experiment.model, tx, experiments.make_loss(config), augment_fn=augment_fn, **options)
    with contextlib.closing(_batches(experiment)) as batches:
        batch = shard_batch(next(batches), mesh)
    metrics = None
    for i in range(WARMUP + steps):
        if i == WARMUP:
            jax.block_until_ready(metrics)
            began = time.perf_counter()
        state, metrics = train_step(state, batch)
    jax.block_until_ready(metrics)
    return steps * config.data.batch_size / (time.perf_counter() - began)


def _loop(config: ConfigDict, workdir: Path) -> dict[str, float]:
    """Images a second of `jaxseg train`, from its own rows, and the part of all cores' time that it used."""
    began, used = time.perf_counter(), sum(os.times()[:4])
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train(config, workdir)
    whole = time.perf_counter() - began
    rows = [row for row in read_rows(workdir / "metrics.jsonl") if row["kind"] == "train"][1:]
    return {
        "loop": statistics.harmonic_mean([row["images_per_s"] for row in rows]),
        "processor": (sum(os.times()[:4]) - used) / (whole * cores()),
        "whole_run_s": whole,
    }


def text(found: dict[str, Any]) -> str:
    """Returns the figures as text."""
    how = f"{found['workers']} processes" if found["workers"] else f"{found['threads']} threads"
    return "\n".join(
        [
            f"{found['case']}, on {found['machine']['device']}, load {found['machine']['load']:.1f}",
            f"{found['images']} images, {found['folder']}; {how} read",
            "",
            f"reading alone   {found['reading']:8.1f} images/s",
            f"step alone      {found['step']:8.1f}",
            f"jaxseg train    {found['loop']:8.1f}",
            "",
            f"The device waited {100 * max(found['waiting'], 0.0):.0f} % of the loop's time;"
            f" the run, its start and evaluation included, used {100 * found['processor']:.0f} % of the processor.",
        ]
    )
