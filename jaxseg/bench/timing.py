"""Timing: one implementation of what is measured, taking turns, and what to say of the machine."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

WARMUP = 2  # turns before the clock starts: caches fill, and the allocator finds its size
PAUSE = 0.3  # seconds between turns; with none, SegFormer's step took 1.3 times as long after PyTorch's as by itself


def _nothing() -> None:
    """What a subject needs not do."""


@dataclass
class Subject:
    """One implementation, ready to be timed; its functions may return before the device is done, and `wait` waits."""

    name: str
    step: Callable[[], None]  # one step of training
    forward: Callable[[], None]  # one forward pass in evaluation
    wait: Callable[[], None] = _nothing
    figures: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] | None = None  # of a peer: the arguments of `create_model` that make the same network here
    augment: Callable[[], None] | None = None  # of ours: the part of the step that a peer leaves to its data loader
    forget_peak: Callable[[], None] = _nothing  # begins to look for the peak of its memory
    peak: Callable[[], int | None] = lambda: None  # bytes at most since then; None where nobody knows

    def run(self, kind: str, times: int) -> Callable[[], None]:
        """Returns a function that does `kind` ("step", "forward", "augment") a number of times and waits once."""
        call = getattr(self, kind)

        def block() -> None:
            for _ in range(times):
                call()
            self.wait()

        return block


@contextmanager
def clock(figures: dict[str, Any], key: str) -> Iterator[None]:
    """Stores the seconds that the `with` block took as `figures[key]`."""
    start = time.perf_counter()
    yield
    figures[key] = time.perf_counter() - start


def alternate(functions: Sequence[Callable[[], object]], count: int, *, warmup: int = WARMUP) -> list[list[float]]:
    """Calls the functions in turns, and returns `count` times of each in seconds, after `warmup` calls without.

    Before each timed call of several there is a pause: OpenMP's threads spin for a while when their work is done, and
    would take the processors from whatever comes next.
    """
    times: list[list[float]] = [[] for _ in functions]
    for n in range(warmup + count):
        for function, seconds in zip(functions, times, strict=True):
            if n >= warmup and len(functions) > 1:
                time.sleep(PAUSE)
            start = time.perf_counter()
            function()
            if n >= warmup:
                seconds.append(time.perf_counter() - start)
    return times


def cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Returns the device, the versions and how busy the machine is: what a figure holds for."""
    import jax

    device = jax.devices()[0]
    return {
        "device": device.device_kind if device.platform != "cpu" else f"{cores()} CPU cores, {processor()}",
        "jax": jax.__version__,
        "python": sys.version.split()[0],
        "cores": cores(),
        "load": os.getloadavg()[0],  # processes that wanted to run in the last minute: above the cores, distrust
    }


def processor() -> str:
    """Returns the name of the CPU, as Linux tells it."""
    import platform

    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
