"""Speed of a model: init, compile, forward and training step, alone or in turns with PyTorch's.

The step is the one that `jaxseg train` runs on one device with the default config: augmentation (zoom and flip), the
forward pass, cross entropy, the gradient and its norm, AdamW; the state is donated. Batches are random bytes and lie on
the device before the clock starts.

With a peer, every step of ours is followed by one of the peer's, so that whatever else the machine does meanwhile slows
both, and ours is the peer's network: the same layers, as many parameters. The peer's batch comes augmented and
normalized, as from a data loader; what that part of our step takes by itself is a figure of its own.
"""

import os
import statistics
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import jax
from ml_collections import ConfigDict

from jaxseg.bench.peers import PEERS
from jaxseg.bench.timing import Case, Subject, alternate, clock, cores
from jaxseg.config import default_config
from jaxseg.experiment import build
from jaxseg.experiment.devices import make_mesh, replicate, shard_batch
from jaxseg.experiment.state import create_state, eval_variables
from jaxseg.models import create_model, init, pixel_statistics
from jaxseg.ops.normalize import normalize
from jaxseg.training.step import make_train_step


def measure(case: Case, *, steps: int = 10, peer: str | None = None) -> dict[str, Any]:
    """Returns every figure of a case, times in seconds and memory in bytes.

    Args:
      case: what to measure.
      steps: timed training steps and forward passes, after three that are not timed.
      peer: a key of `PEERS`, or None.
    """
    other = PEERS[peer](case) if peer else None  # first: a missing library is told at once
    ours = _ours(case, other.network if other else None)
    subjects = [ours] + ([other] if other else [])
    figures = {"case": asdict(case), "machine": _machine(), "steps": steps}
    for kind in ("forward", "step"):
        times = alternate([getattr(subject, kind) for subject in subjects], steps)
        for subject, seconds in zip(subjects, times, strict=True):
            subject.figures[f"{kind}_s"] = statistics.median(seconds)
            subject.figures[f"{kind}_fastest_s"] = min(seconds)
    ours.figures["augment_s"] = statistics.median(alternate([ours.augment], steps)[0])
    for subject in subjects:
        subject.figures["images_per_s"] = case.batch / subject.figures["step_s"]
        figures[subject.name] = subject.figures
    figures["jaxseg"] |= _peak_memory(shared=len(subjects) > 1)
    if other:
        figures["ratio"] = {
            f"{kind}_s": figures["jaxseg"][f"{kind}_s"] / other.figures[f"{kind}_s"] for kind in ("forward", "step")
        }
    return figures


def table(figures: dict[str, Any]) -> str:
    """Returns the figures as text, a column for each implementation."""
    case, names = figures["case"], [name for name in ("jaxseg", *PEERS) if name in figures]
    height, width = case["size"]
    title = f"{case['model']} / {case['encoder']}, {case['batch']} x {height} x {width}, {case['dtype']}"
    lines = [f"{title}, on {figures['machine']['device']}", "", f"{'':24}" + "".join(f"{name:>12}" for name in names)]
    rows = {
        "parameters": ("parameters", lambda n: f"{n / 1e6:.2f} M"),
        "init": ("init_s", _seconds),
        "trace and lower": ("trace_s", _seconds),
        "compile": ("compile_s", _seconds),
        "forward": ("forward_s", _seconds),
        "training step": ("step_s", _seconds),
        "augmentation alone": ("augment_s", _seconds),
        "training step, fastest": ("step_fastest_s", _seconds),
        "images/s in training": ("images_per_s", lambda n: f"{n:.1f}"),
        "memory of the step": ("program_bytes", _gibibytes),
        "peak memory": ("peak_bytes", _gibibytes),
    }
    for label, (key, show) in rows.items():
        cells = [show(figures[name][key]) if key in figures[name] else "-" for name in names]
        if set(cells) != {"-"}:
            lines.append(f"{label:24}" + "".join(f"{cell:>12}" for cell in cells))
    if "ratio" in figures:
        forward, step = figures["ratio"].values()
        peer = names[1]
        lines += ["", f"jaxseg / {peer}: forward {forward:.2f}, training step {step:.2f}"]
        lines += [f"jaxseg's training step augments the images; {peer}'s gets them ready."]
        here, there = (figures[name]["parameters"] for name in ("jaxseg", peer))
        if here != there:
            lines += [
                f"The networks differ: {here:,} parameters here, {there:,} in {peer}. Do not compare their times."
            ]
    return "\n".join(lines)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.1f} ms"


def _gibibytes(value: int) -> str:
    return f"{value / 2**30:.2f} GiB"


def make_config(case: Case) -> ConfigDict:
    """Returns the config whose training step is timed: the defaults, with the zoom and flip of most recipes."""
    c = default_config()
    c.data.update(canvas=case.size, crop=case.size, batch_size=case.batch)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.train.update(steps=10_000, devices=1)
    return c


def _ours(case: Case, network: Mapping[str, Any] | None) -> Subject:
    """The model of a case, or the network of a peer, and the step that `jaxseg train` runs on one device."""
    figures, config = {}, make_config(case)
    network = network or {"name": case.model, "encoder": case.encoder, "output_stride": case.output_stride}
    model = create_model(**network, num_classes=case.classes, dtype=case.dtype)
    with clock(figures, "init_s"):
        variables = jax.block_until_ready(init(model, jax.random.key(0), image_size=case.size))
    figures["parameters"] = sum(p.size for p in jax.tree.leaves(variables["params"]))
    mesh = make_mesh(config.train.devices)
    mean, std = pixel_statistics(model)
    tx = build.make_optimizer(config, build.make_schedule(config, config.train.steps))
    augment_fn = build.make_augment(config, ignore=255, mean=mean, std=std)
    loss_fn, options = build.make_loss(config), {"seed": config.seed, "grad_norm": config.log.grad_norm}
    train_step = make_train_step(model, tx, loss_fn, augment_fn=augment_fn, mesh=mesh, **options)
    images, labels = case.arrays()
    batch = shard_batch({"image": images, "label": labels}, mesh)
    state = replicate(create_state(variables, tx), mesh)
    with clock(figures, "trace_s"):
        lowered = train_step.lower(state, batch)
    with clock(figures, "compile_s"):
        compiled = lowered.compile()
    figures["program_bytes"] = _size(compiled.memory_analysis())
    augment_alone, key = jax.jit(augment_fn), jax.random.key(0)
    apply = jax.jit(partial(model.apply, train=False))
    normalized = jax.device_put(normalize(images, mean, std))

    def step() -> None:
        nonlocal state
        state, metrics = compiled(state, batch)
        jax.block_until_ready((state, metrics))

    def forward() -> None:
        jax.block_until_ready(apply(eval_variables(state), normalized))

    def augment() -> None:
        jax.block_until_ready(augment_alone(key, batch))

    return Subject("jaxseg", step, forward, figures, augment=augment)


def _size(memory: Any) -> int:
    """Bytes that a compiled program holds at once."""
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return kept + memory.temp_size_in_bytes


def _machine() -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "device": device.device_kind if device.platform != "cpu" else f"{cores()} CPU cores",
        "jax": jax.__version__,
        "python": sys.version.split()[0],
        "load": os.getloadavg()[0],  # processes that wanted to run in the last minute: above the cores, distrust
    }


def _peak_memory(*, shared: bool) -> dict[str, int]:
    """Returns the device's peak; on a CPU the process's, unless a peer shares the process."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return {"peak_bytes": stats["peak_bytes_in_use"]}
    if shared:
        return {}
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
