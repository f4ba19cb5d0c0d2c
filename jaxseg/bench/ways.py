"""Ways to do what jaxseg does, side by side on this device: jaxseg's own, XLA's, PyTorch's, and others.

A comparison is an operation at one size and the ways to compute it. With gradients, forward and backward are timed
together: the result and the gradients are all written, and the cotangent is an argument, as within a network.
"""

import contextlib
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Way = Callable[..., Any]
Hold = Callable[[], contextlib.AbstractContextManager[None]]
COMPARED = 2**24  # numbers of a result that are copied to the host to be compared with torch's

# How torch wants what is [b, h, w, c] or [kh, kw, i, o] here: axes of ours in torch's order.
AXES = {"image": (0, 3, 1, 2), "kernel": (3, 2, 0, 1), "plain": None}


@dataclass(frozen=True)
class Scale:
    """How large the comparisons are."""

    batch: int  # images
    shrink: int = 1  # that sides in pixels are divided by
    dtype: Any = jnp.bfloat16  # of features and kernels

    def side(self, pixels: int) -> int:
        """Returns a number of pixels at this scale."""
        return max(pixels // self.shrink, 8)


def usual_scale(batch: int | None = None) -> Scale:
    """Returns the sizes of the docs on a GPU, and some that a CPU can bear elsewhere.

    Args:
      batch: images; None is 16 on a GPU, else 2. One image has sides an eighth as long on a CPU, to rehearse.
    """
    if jax.default_backend() == "gpu":
        return Scale(batch or 16)
    return Scale(batch or 2, 8 if batch == 1 else 2, jnp.float32)


@dataclass(frozen=True)
class Comparison:
    """An operation at one size, and ways to compute it."""

    title: str
    ways: Mapping[str, Way]  # the first is jaxseg's, which the others are held against
    arguments: Callable[[], tuple[Array, ...]]  # makes the arrays, when they are needed
    grad: tuple[int, ...] = (0,)  # arguments whose gradient is computed, too; () times the function alone
    torch: Way | None = None  # the same of torch's tensors; a result of four axes is laid out as torch's images are
    axes: tuple[str, ...] = field(default=())  # a key of `AXES` for each argument, for torch

    def names(self) -> list[str]:
        """Returns the names of the ways that can run here."""
        return [*self.ways, *(["torch"] if self.torch and importlib.util.find_spec("torch") else [])]


def normal(shape: Sequence[int], dtype: Any, seed: int = 0) -> Array:
    """Returns normally distributed numbers, made on the device."""
    return jax.jit(lambda: jax.random.normal(jax.random.key(seed), shape, jnp.float32).astype(dtype))()


def compare(
    comparison: Comparison,
    *,
    skip: int = 0,
    begin: Callable[[str], None] = lambda way: None,
    hold: Hold = contextlib.nullcontext,
) -> Iterator[dict[str, Any]]:
    """Times the ways of a comparison, one after another, and yields a row of each.

    Args:
      comparison: what is compared.
      skip: ways from the first that are left out.
      begin: is told the way that comes next, for those who end one that hangs.
      hold: a context in which to time, for those who share the device.

    Yields:
      "case", "way", "ms" (the fastest block's), "median_ms", "agrees" (relative distance from the first way's result),
      "temp_mib" and "compile_s"; or "error".
    """
    arguments, reference = comparison.arguments(), None
    for way in comparison.names()[skip:]:
        begin(way)
        row: dict[str, Any] = {"case": comparison.title, "way": way}
        try:
            prepare = _prepare_torch if way == "torch" else _prepare
            call, wait, more = prepare(comparison, way, arguments)
            with hold():
                row |= _time(call, wait)
            out = call()
            wait(out)
            row |= more
            if reference is None and way == next(iter(comparison.ways)):
                reference = out
            elif reference is not None:
                row["agrees"] = _distance(out, reference)
        except Exception as error:  # a way that this device refuses has no time; the others have theirs
            row["error"] = f"{type(error).__name__}: {error}"[:300]
        yield row


def _prepare(comparison: Comparison, way: str, arguments: tuple[Array, ...]) -> tuple[Any, Any, dict[str, Any]]:
    """Compiles a way; returns a call of it, what waits for its result, and figures."""
    f, grad = comparison.ways[way], comparison.grad

    def whole(args: tuple[Array, ...], cotangent: Any) -> Any:
        if not grad:
            return f(*args)

        def of(*chosen: Array) -> Any:
            return f(*(chosen[grad.index(i)] if i in grad else a for i, a in enumerate(args)))

        y, back = jax.vjp(of, *(args[i] for i in grad))
        return y, back(cotangent)

    cotangent = _cotangent(f, arguments) if grad else None
    began = time.perf_counter()
    compiled = jax.jit(whole).lower(arguments, cotangent).compile()
    seconds = time.perf_counter() - began
    memory = compiled.memory_analysis()
    more = {"compile_s": seconds, "temp_mib": memory.temp_size_in_bytes / 2**20}
    return (lambda: compiled(arguments, cotangent)), jax.block_until_ready, more


def _cotangent(f: Way, arguments: tuple[Array, ...]) -> Array:
    y = jax.eval_shape(f, *arguments)
    return normal(y.shape, y.dtype, seed=9)


def _prepare_torch(comparison: Comparison, way: str, arguments: tuple[Array, ...]) -> tuple[Any, Any, dict[str, Any]]:
    """The same for torch, eager: what cuDNN or oneDNN takes."""
    import torch

    from jaxseg.bench.timing import cores

    cuda = torch.cuda.is_available() and jax.default_backend() == "gpu"
    device = "cuda" if cuda else "cpu"
    torch.set_num_threads(cores())
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    f, grad = comparison.torch, comparison.grad
    assert f is not None  # `names` has no torch then
    tensors = [_tensor(x, kind, device) for x, kind in zip(arguments, comparison.axes, strict=True)]
    for i in grad:
        tensors[i].requires_grad_(True)
    cotangent = None
    if grad:
        y = f(*tensors)
        cotangent = torch.randn_like(y)

    def call() -> Any:
        if not grad:
            with torch.no_grad():
                return f(*tensors)
        y = f(*tensors)
        return y, torch.autograd.grad(y, [tensors[i] for i in grad], cotangent)

    def wait(out: Any) -> None:
        if cuda:
            torch.cuda.synchronize()

    return call, wait, {}


def _tensor(x: Array, kind: str, device: str) -> Any:
    """An array as a tensor of torch, of the same layout in memory."""
    import torch

    values = np.asarray(x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x)
    tensor = torch.from_numpy(values.copy()).to(device)
    if x.dtype == jnp.bfloat16:
        tensor = tensor.to(torch.bfloat16)
    return tensor if (order := AXES[kind]) is None else tensor.permute(order)


def _time(call: Callable[[], Any], wait: Callable[[Any], None]) -> dict[str, Any]:
    """Times blocks of calls: a tenth of a second in all, unless one call takes longer."""
    wait(call())
    began = time.perf_counter()
    wait(call())
    once = time.perf_counter() - began
    repeat, blocks = (1, 1) if once > 0.3 else (int(min(max(0.06 / max(once, 1e-6), 2), 40)), 5)
    times = []
    for _ in range(blocks):
        began = time.perf_counter()
        for _ in range(repeat):
            out = call()
        wait(out)
        times.append((time.perf_counter() - began) / repeat)
    return {"ms": 1e3 * min(times), "median_ms": 1e3 * statistics.median(times), "repeat": repeat}


@jax.jit
def _apart(a: Array, b: Array) -> Float[Array, ""]:
    """How far apart two arrays are, relative to the second; on the device, as gigabytes need not come to the host."""
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return jnp.sqrt(jnp.square(a - b).sum()) / (jnp.sqrt(jnp.square(b).sum()) + 1e-9)


def _distance(out: Any, reference: Any) -> float | None:
    """The largest distance of a result, or a gradient, from the reference's; of torch's the result's alone."""
    leaves = jax.tree.leaves(out)
    if all(isinstance(leaf, jax.Array) for leaf in leaves):
        pairs = zip(leaves, jax.tree.leaves(reference), strict=True)
        return max(float(_apart(a, b)) for a, b in pairs)
    first, expected = leaves[0].detach(), jax.tree.leaves(reference)[0]
    if expected.size > COMPARED or first.numel() != expected.size:
        return None
    if first.ndim == 4:
        first = first.permute(0, 2, 3, 1)
    return float(_apart(jnp.asarray(first.float().cpu().numpy()), expected))


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows of `compare` as a Markdown table; the factor is to jaxseg's own way."""
    lines = ["| operation | way | ms | factor | differs by | temporary MiB |", "|" + "---|" * 6]
    first: dict[str, float] = {}
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['case']} | {row['way']} | {row['error'].splitlines()[0][:80]} | | | |")
            continue
        base = first.setdefault(row["case"], row["ms"])
        agrees = "" if row.get("agrees") is None else f"{row['agrees']:.1e}"
        memory = f"{row['temp_mib']:.0f}" if "temp_mib" in row else ""
        lines.append(
            f"| {row['case']} | {row['way']} | {row['ms']:.3f} | {row['ms'] / base:.2f} | {agrees} | {memory} |"
        )
    return "\n".join(lines) + "\n"


def write_row(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a row to a file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
