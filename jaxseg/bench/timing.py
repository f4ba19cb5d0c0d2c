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

    model: str  # a key of `MODELS`
    encoder: str  # a key of `ENCODERS`; "" is the model's own
    size: tuple[int, int]  # (height, width) in pixels
    batch: int  # images
    dtype: str = "float32"  # of the computation
    classes: int = 21  # at most 255, as labels are bytes
    output_stride: int | None = None  # of the encoder, in pixels; None is the model's own

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns random images u8[b, h, w, 3] and labels u8[b, h, w]."""
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (self.batch, *self.size, 3), np.uint8)
        return images, random.integers(0, self.classes, (self.batch, *self.size), np.uint8)


@dataclass
class Subject:
    """One implementation, ready to be timed; its functions return when the device is done."""

    name: str
    step: Callable[[], None]
    forward: Callable[[], None]
    figures: dict[str, Any] = field(default_factory=dict)
    network: dict[str, Any] | None = None  # of a peer: the arguments of `create_model` that make the same network here
    augment: Callable[[], None] | None = None  # of ours: the part of the step that a peer leaves to its data loader


@contextmanager
def clock(figures: dict[str, Any], key: str) -> Iterator[None]:
    """Stores the seconds that the `with` block took as `figures[key]`."""
    start = time.perf_counter()
    yield
    figures[key] = time.perf_counter() - start


def alternate(functions: Sequence[Callable[[], object]], count: int) -> list[list[float]]:
    """Calls the functions in turns, and returns `count` times of each in seconds, after `WARMUP` calls without."""
    times = [[] for _ in functions]
    for n in range(WARMUP + count):
        for function, seconds in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            if n >= WARMUP:
                seconds.append(time.perf_counter() - start)
    return times


def cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
