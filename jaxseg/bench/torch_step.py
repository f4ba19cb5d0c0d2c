"""A training step in PyTorch, set up as those set it up who want it fast.

On a GPU: channels_last, bfloat16 autocast, cuDNN's autotuning, TF32, fused AdamW, eager and under
`torch.compile(mode="max-autotune")`. On a CPU: eager, in the faster of the two memory formats, which is measured.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxseg.bench.cases import Case
from jaxseg.bench.timing import Subject, cores

FORMATS = ("channels_last", "contiguous")
TRIES = 2  # steps in each format, in turns, each after one that is not timed


def subjects(
    name: str, model: Any, case: Case, figures: dict[str, Any], network: dict[str, Any] | None
) -> list[Subject]:
    """Returns the ways to run a torch model: one on a CPU, eager and compiled on a GPU.

    Args:
      name: of the library.
      model: a `torch.nn.Module`, image f[b, 3, h, w] -> logits f[b, classes, h, w].
      case: what is measured.
      figures: of the model, which every way gets a copy of.
      network: the arguments of `create_model` that make it here; None if they are those of the case.
    """
    import torch

    cuda = torch.cuda.is_available() and jax.default_backend() == "gpu"
    torch.set_num_threads(cores())
    step = TorchStep(model, case, "cuda" if cuda else "cpu")
    if not cuda:
        figures |= step.choose_format()
        return [step.subject(name, figures, network, model)]
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    step.use_format("channels_last")
    compiled = torch.compile(model, mode="max-autotune")
    ways = {name: model, f"{name} compiled": compiled}
    return [step.subject(way, {**figures}, network, run) for way, run in ways.items()]


class TorchStep:
    """A torch model, its optimizer and a batch that is augmented and normalized already."""

    def __init__(self, model: Any, case: Case, device: str):
        import torch

        self.torch, self.cuda = torch, device == "cuda"
        self.model = model.to(device).train()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, **({"fused": True} if self.cuda else {}))
        images, labels = case.arrays()
        images = (images - np.float32(127.5)) / np.float32(64)
        self.images = torch.from_numpy(images.transpose(0, 3, 1, 2)).to(device)
        self.labels = torch.from_numpy(labels).to(device).long()
        self.cast: Callable[[], Any] = nullcontext
        if case.dtype == "bfloat16":
            self.cast = partial(torch.autocast, device, dtype=torch.bfloat16)

    def use_format(self, name: str) -> None:
        """Lays the model's kernels and the images out as "channels_last" or "contiguous"."""
        layout = {"channels_last": self.torch.channels_last, "contiguous": self.torch.contiguous_format}[name]
        self.model.to(memory_format=layout)
        self.images = self.images.contiguous(memory_format=layout)

    def choose_format(self) -> dict[str, Any]:
        """Takes the memory format whose step is faster; returns which, and the seconds of a step in each."""
        seconds = dict.fromkeys(FORMATS, float("inf"))
        for name in FORMATS * TRIES:
            self.use_format(name)
            self.step(self.model)
            start = time.perf_counter()
            self.step(self.model)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
        best = min(seconds, key=seconds.__getitem__)
        self.use_format(best)
        return {"memory_format": best, "layout_s": seconds}

    def step(self, run: Callable[[Any], Any]) -> None:
        """One step of training, by the model or by what a compiler made of it."""
        if self.cuda:
            self.torch.compiler.cudagraph_mark_step_begin()
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with self.cast():
            logits = run(self.images)
        loss = self.torch.nn.functional.cross_entropy(logits.float(), self.labels)
        loss.backward()
        self.optimizer.step()

    def forward(self, run: Callable[[Any], Any]) -> None:
        """One forward pass in evaluation."""
        if self.cuda:
            self.torch.compiler.cudagraph_mark_step_begin()
        self.model.eval()
        with self.torch.no_grad(), self.cast():
            run(self.images)

    def subject(
        self, name: str, figures: dict[str, Any], network: dict[str, Any] | None, run: Callable[[Any], Any]
    ) -> Subject:
        """Returns a way to run the model, to be timed."""
        cuda = self.torch.cuda

        def forget_peak() -> None:
            if self.cuda:
                cuda.empty_cache()
                cuda.reset_peak_memory_stats()

        return Subject(
            name,
            step=partial(self.step, run),
            forward=partial(self.forward, run),
            wait=cuda.synchronize if self.cuda else lambda: None,
            figures=figures,
            network=network,
            forget_peak=forget_peak,
            peak=lambda: cuda.max_memory_allocated() if self.cuda else None,
        )
