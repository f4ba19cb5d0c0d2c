"""Timing: what is measured, one implementation of it, and taking turns."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

WARMUP = 3  # steps before the clock starts: caches fill, and the allocator finds its size


@dataclass(frozen=True)
class Case:
    """What is measured."""

    model: str
    encoder: str
    size: tuple[int, int]  # (height, width) in pixels
    batch: int
    dtype: str = "float32"
    classes: int = 21
    output_stride: int | None = None

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns random normalized images f32[b, h, w, 3] and labels i32[b, h, w]."""
        random = np.random.default_rng(0)
        images = random.normal(size=(self.batch, *self.size, 3)).astype(np.float32)
        return images, random.integers(0, self.classes, (self.batch, *self.size), np.int32)


@dataclass
class Subject:
    """One implementation, ready to be timed; both functions return when the device is done."""

    name: str
    step: Callable[[], None]
    forward: Callable[[], None]
    figures: dict[str, Any] = field(default_factory=dict)


@contextmanager
def clock(figures: dict[str, Any], key: str) -> Iterator[None]:
    """Puts the seconds that its block took into `figures[key]`."""
    start = time.perf_counter()
    yield
    figures[key] = time.perf_counter() - start


def alternate(functions: Sequence[Callable[[], object]], count: int) -> list[list[float]]:
    """Calls the functions in turns and returns the times of each."""
    times = [[] for _ in functions]
    for n in range(WARMUP + count):
        for function, seconds in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if n >= WARMUP:
                seconds.append(time.perf_counter() - start)
    return times


def cores() -> int:
    """Returns how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
