"""Speed of a model: init, compile, forward and training step, alone or in turns with PyTorch's.

The step is the one that `jaxseg train` runs on one device with the default config: augmentation (zoom and flip), the
forward pass, cross entropy, the gradient and its norm, AdamW; the state is donated. Batches are random bytes and lie on
the device before the clock starts.

With a peer, every block of our steps is followed by one of the peer's, so that whatever else the machine does meanwhile
slows both, and ours is the peer's network: the same layers, as many parameters. On a machine without a GPU the peer has
a process of its own. The peer's batch comes augmented and normalized, as from a data loader; what that part of our step
takes by itself is a figure of its own. Where a peer has two ways to run (on a GPU, eager and compiled), ratios are to
the faster one.
"""

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import jax

from jaxseg.bench.cases import Case
from jaxseg.bench.peer_process import peak_bytes, running
from jaxseg.bench.program import make_program
from jaxseg.bench.timing import Subject, alternate, clock, machine
from jaxseg.checks import UserError
from jaxseg.experiment.devices import replicate, shard_batch
from jaxseg.experiment.state import create_state, eval_variables
from jaxseg.ops.normalize import normalize

KINDS = ("forward", "step")
BLOCK = 5  # steps between two looks at the clock on a GPU, which so never waits for the host as in training


def measure(case: Case, *, steps: int = 10, peer: str | None = None) -> dict[str, Any]:
    """Returns every figure of a case, times in seconds and memory in bytes.

    Args:
      case: what to measure.
      steps: timed turns of training steps and of forward passes, after some that are not timed. A turn is one step on
        a CPU and five on a GPU.
      peer: a key of `PEERS`, or None.

    Raises:
      UserError: the peer's library is missing or lacks the model, or JAX would take the memory that the peer needs.
    """
    with running(peer, case) as others:  # first: a missing library is told at once
        _check_memory_is_shared(peer)
        return _measure(case, others, steps)


def _measure(case: Case, others: Sequence[Subject], steps: int) -> dict[str, Any]:
    ours = _ours(case, others[0].network if others else None)
    figures: dict[str, Any] = {"case": asdict(case), "machine": machine(), "steps": steps}
    block = 1 if jax.default_backend() == "cpu" else BLOCK
    ratios = {}
    for other in others:
        try:
            ratios[other.name] = _in_turns(ours, other, steps, block)
        except Exception as error:  # of the peer's compiler, say; the other way to run it has its figures
            if len(others) == 1:
                raise
            other.figures = {"error": f"{type(error).__name__}: {error}"[:500]}
        figures[other.name] = other.figures
    if not others:
        _alone(ours, steps, block)
    ours.figures["augment_s"] = _each(alternate([ours.run("augment", block)], steps)[0], block)["median"]
    ours.figures |= _peak_memory(shared=any("process_peak_bytes" not in other.figures for other in others))
    figures["jaxseg"] = ours.figures
    if ratios:
        fastest = min(ratios, key=lambda name: figures[name]["step_s"])
        ours.figures |= ratios[fastest].pop("jaxseg")
        figures["ratio"] = {"peer": fastest} | ratios[fastest]
    ours.figures["images_per_s"] = case.batch / ours.figures["step_s"]
    for other in others:
        if "step_s" in other.figures:
            other.figures["images_per_s"] = case.batch / other.figures["step_s"]
    return figures


def measure_forward(case: Case, *, steps: int = 10) -> dict[str, Any]:
    """Returns the figures of the forward pass alone, as of `measure`: of a network that cannot train on this batch.

    Args:
      case: what to measure.
      steps: timed turns, as for `measure`.
    """
    figures: dict[str, Any] = {}
    program = make_program(case, None)
    with clock(figures, "init_s"):
        variables = replicate(jax.block_until_ready(program.variables()), program.mesh)
    figures["parameters"] = sum(p.size for p in jax.tree.leaves(variables["params"]))
    normalized = jax.device_put(normalize(case.arrays()[0], program.mean, program.std))
    apply, last = jax.jit(lambda variables, images: program.model.apply(variables, images, train=False)["logits"]), None

    def forward() -> None:
        nonlocal last
        last = apply(variables, normalized)

    ours = Subject("jaxseg", forward, forward, lambda: jax.block_until_ready(last), figures)
    block = 1 if jax.default_backend() == "cpu" else BLOCK
    _alone(ours, steps, block, kinds=("forward",))
    figures["forward_images_per_s"] = case.batch / figures["forward_s"]
    return {"case": asdict(case), "machine": machine(), "steps": steps, "jaxseg": figures}


def _in_turns(ours: Subject, other: Subject, steps: int, block: int) -> dict[str, Any]:
    """Times both; returns the ratios, with our own figures under "jaxseg"."""
    found: dict[str, Any] = {"jaxseg": {}}
    for kind in KINDS:
        for subject in (ours, other):
            if f"first_{kind}_s" not in subject.figures:
                with clock(subject.figures, f"first_{kind}_s"):
                    subject.run(kind, 1)()
        other.forget_peak()
        runs = [subject.run(kind, block) for subject in (ours, other)]
        here, there = alternate(runs, steps)
        for target, seconds in ((found["jaxseg"], here), (other.figures, there)):
            each = _each(seconds, block)
            target[f"{kind}_s"], target[f"{kind}_fastest_s"] = each["median"], each["least"]
        if (peak := other.peak()) is not None:
            other.figures["peak_bytes" if kind == "step" else "forward_peak_bytes"] = peak
        found[f"{kind}_s"] = statistics.median(here) / statistics.median(there)
        found[f"{kind}_of_turns"] = statistics.median(a / b for a, b in zip(here, there, strict=True))
    return found


def _alone(ours: Subject, steps: int, block: int, kinds: Sequence[str] = KINDS) -> None:
    for kind in kinds:
        with clock(ours.figures, f"first_{kind}_s"):
            ours.run(kind, 1)()
        each = _each(alternate([ours.run(kind, block)], steps)[0], block)
        ours.figures |= {f"{kind}_s": each["median"], f"{kind}_fastest_s": each["least"]}


def _each(seconds: Sequence[float], block: int) -> dict[str, float]:
    """Of the times of blocks, what one step took."""
    return {"median": statistics.median(seconds) / block, "least": min(seconds) / block}


def _ours(case: Case, network: Mapping[str, Any] | None) -> Subject:
    """The model of a case, or the network of a peer, and the step that `jaxseg train` runs on one device."""
    figures: dict[str, Any] = {}
    program = make_program(case, network)
    with clock(figures, "init_s"):
        variables = jax.block_until_ready(program.variables())
    figures["parameters"] = sum(p.size for p in jax.tree.leaves(variables["params"]))
    images, labels = case.arrays()
    batch = shard_batch({"image": images, "label": labels}, program.mesh)
    state = replicate(create_state(variables, program.tx), program.mesh)
    with clock(figures, "trace_s"):
        lowered = program.step.lower(state, batch)
    with clock(figures, "compile_s"):
        compiled = lowered.compile()
    figures["program_bytes"] = program_size(compiled.memory_analysis())
    augment_alone, key = jax.jit(program.augment_fn), jax.random.key(0)
    apply = jax.jit(partial(program.model.apply, train=False))
    normalized = jax.device_put(normalize(images, program.mean, program.std))
    last: Any = None

    def step() -> None:
        nonlocal state, last
        state, last = compiled(state, batch)

    def forward() -> None:
        nonlocal last
        last = apply(eval_variables(state), normalized)

    def augment() -> None:
        nonlocal last
        last = augment_alone(key, batch)

    def wait() -> None:
        jax.block_until_ready((state, last))

    return Subject("jaxseg", step, forward, wait, figures, augment=augment)


def program_size(memory: Any) -> int:
    """Returns the bytes that a compiled program holds at once.

    Args:
      memory: its `memory_analysis()`.
    """
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return kept + memory.temp_size_in_bytes


def share_the_device() -> None:
    """Makes JAX take memory as it needs it, if it has not begun yet, in place of three quarters of a GPU's at once."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def _check_memory_is_shared(peer: str | None) -> None:
    taken = os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "true").lower() not in ("false", "0")
    if peer and taken and jax.default_backend() == "gpu":
        raise UserError(
            f"JAX takes three quarters of the GPU's memory before {peer} gets any. Set the variable"
            " XLA_PYTHON_CLIENT_PREALLOCATE=false before Python starts (`jaxseg bench --peer` does it)."
        )


def _peak_memory(*, shared: bool) -> dict[str, int]:
    """Returns the device's peak; on a CPU the process's, from its start, unless a peer shares the process."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return {"peak_bytes": stats["peak_bytes_in_use"]}
    return {} if shared else {"process_peak_bytes": peak_bytes()}
