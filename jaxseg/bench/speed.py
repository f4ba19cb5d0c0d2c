"""Speed of a model: init, compile, forward and training step, alone or in turns with PyTorch's.

The step is the one people run: AdamW on cross entropy, batch statistics updated, the state donated. Batches are random
and lie on the device before the clock starts. With a peer, every step of ours is followed by one of the peer's, so
that whatever else the machine does meanwhile slows both.
"""

import os
import statistics
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxseg.bench.peers import PEERS
from jaxseg.bench.timing import Case, Subject, alternate, clock, cores
from jaxseg.losses.cross_entropy import cross_entropy
from jaxseg.models import create_model, init


def measure(case: Case, *, steps: int = 10, peer: str | None = None) -> dict[str, Any]:
    """Returns every figure of a case, times in seconds and memory in bytes.

    Args:
      case: what to measure.
      steps: timed training steps and forward passes, after three that are not timed.
      peer: a key of `PEERS`, or None.
    """
    other = PEERS[peer](case) if peer else None  # first: a missing library is told at once
    subjects = [_ours(case)] + ([other] if other else [])
    figures = {"case": asdict(case), "machine": _machine(), "steps": steps}
    for kind in ("forward", "step"):
        times = alternate([getattr(subject, kind) for subject in subjects], steps)
        for subject, seconds in zip(subjects, times, strict=True):
            subject.figures[f"{kind}_s"] = statistics.median(seconds)
            subject.figures[f"{kind}_fastest_s"] = min(seconds)
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
        lines += ["", f"jaxseg / {names[1]}: forward {forward:.2f}, training step {step:.2f}"]
    return "\n".join(lines)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.1f} ms"


def _gibibytes(value: int) -> str:
    return f"{value / 2**30:.2f} GiB"


def _ours(case: Case) -> Subject:
    figures = {}
    model = create_model(
        case.model, case.encoder, num_classes=case.classes, output_stride=case.output_stride, dtype=case.dtype
    )
    with clock(figures, "init_s"):
        variables = jax.block_until_ready(init(model, jax.random.key(0)))
    figures["parameters"] = sum(p.size for p in jax.tree.leaves(variables["params"]))
    optimizer = optax.adamw(1e-3)

    def train_step(
        variables: dict[str, Any], opt_state: Any, images: Float[Array, "b h w 3"], labels: Int[Array, "b h w"]
    ) -> tuple[dict[str, Any], Any, Float[Array, ""]]:
        def loss_function(params: Mapping[str, Any]) -> tuple[Float[Array, ""], Mapping[str, Any]]:
            outputs, updated = model.apply(
                {**variables, "params": params},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
            return cross_entropy(outputs["logits"], labels), updated

        (loss, updated), grads = jax.value_and_grad(loss_function, has_aux=True)(variables["params"])
        updates, opt_state = optimizer.update(grads, opt_state, variables["params"])
        return {**updated, "params": optax.apply_updates(variables["params"], updates)}, opt_state, loss

    images, labels = map(jnp.asarray, case.arrays())
    state = (variables, jax.jit(optimizer.init)(variables["params"]))
    with clock(figures, "trace_s"):
        lowered = jax.jit(train_step, donate_argnums=(0, 1)).lower(*state, images, labels)
    with clock(figures, "compile_s"):
        compiled = lowered.compile()
    memory = compiled.memory_analysis()
    figures["program_bytes"] = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    apply = jax.jit(partial(model.apply, train=False))

    def step() -> None:
        nonlocal state
        *state, loss = compiled(*state, images, labels)
        jax.block_until_ready((state, loss))

    def forward() -> None:
        jax.block_until_ready(apply(state[0], images))

    return Subject("jaxseg", step, forward, figures)


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
