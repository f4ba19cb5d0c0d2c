"""One model's training step in jaxseg and in smp, blocks of steps in turns, on one device in one process.

1. compiles jaxseg's step and prediction ahead of time, beside all other networks; nothing of it is on the card yet
2. takes places of memory, then the card: jaxseg alone, then in turns with smp eager (which also picks cuDNN's algorithms)
3. torch.compile and its first steps, beside others, which stand still whenever anyone times
4. the card again: jaxseg in turns with the compiled smp
`stage_pair.py NAME level0`: the same without XLA's autotuning (the flags come from stages.py). It times jaxseg alone where the
autotuned one was compiled in time, and everything where it was not.
"""
import sys
from common import *
import networks
name, variant = sys.argv[1], "".join(sys.argv[2:3])
case, places = networks.case(name), networks.PLACES.get(name, 1)
batch, size, dtype = case.batch, case.size[0], case.dtype
BLOCK, ROUNDS = (1, 2) if TINY else (5, 6)
MARKS = WORK / "compiled"
MARKS.mkdir(exist_ok=True)
register()

import gzip, re
from functools import partial
import jax, numpy as np
from jaxseg.bench.speed import program_size
from jaxseg.bench.timing import alternate
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.experiment.devices import make_mesh, replicate, shard_batch
from jaxseg.inference import predict_step

row = dict(kind="pair", name=name, variant=variant, batch=batch, size=size, dtype=dtype, device=jax.devices()[0].device_kind, xla_flags=os.environ.get("XLA_FLAGS", ""))
images, labels = case.arrays()

# ours: the very step that train.py and `jaxseg bench` run, augmentation and norm of the gradient included
mesh = make_mesh(1)
program = networks.program(name, mesh)
t = time.perf_counter()
with jax.default_device(jax.local_devices(backend="cpu")[0]):
    variables = program.variables()
kept = networks.host_state(variables, program.tx)  # on the host until it is timed
del variables
row["jaxseg_init_s"] = time.perf_counter() - t
abstract = program.shapes()
t = time.perf_counter()
lowered = program.step.trace(*abstract).lower()
row["jaxseg_trace_s"] = time.perf_counter() - t
t = time.perf_counter()
compiled = lowered.compile()
row["jaxseg_compile_s"] = time.perf_counter() - t
t = time.perf_counter()
predict = jax.jit(partial(predict_step, partial(program.model.apply, train=False), preprocessing=Preprocessing(program.mean, program.std)))  # uint8 in, class ids out
predict = predict.lower({"params": abstract[0].params, "batch_stats": abstract[0].batch_stats}, abstract[1]["image"]).compile()
row["jaxseg_predict_compile_s"] = time.perf_counter() - t
memory = compiled.memory_analysis()
row["jaxseg_temp_gib"] = memory.temp_size_in_bytes / 2**30
row["jaxseg_step_gib"] = program_size(memory) / 2**30
try:
    from jaxseg.bench.hlo import read
    text = compiled.as_text()
    reading = read(text, batch)
    row |= dict(kernels=len(reading.kernels), small_kernels=reading.small, gb_touched=reading.bytes / 1e9, convolutions=reading.convolutions(), transposed=len(reading.transposed))
    if not TINY:
        (WORK / "hlo" / f"{name}{variant}.hlo.gz").write_bytes(gzip.compress(text.encode(), 3))
except Exception as error:
    row["hlo_error"] = repr(error)[:200]
main, taken = MARKS / name, MARKS / f"{name}.taken"
row["others_still_compiling"] = sorted(p.name for p in (WORK / "expected").iterdir() if not (MARKS / p.name).exists() and p.name != name + variant)
(MARKS / (name + variant)).touch()
add(**row)
alone = False
if variant:  # wait for the autotuned one
    patience = time.monotonic() + min(float(os.environ.get("PATIENCE", 90)), left() / 3)
    while not main.exists() and (WORK / "expected" / name).exists() and time.monotonic() < patience:
        time.sleep(0.5)
    alone = main.exists()
    if not alone:
        taken.touch()
elif taken.exists():
    alone = True


def ours(n):
    global state
    for _ in range(n):
        state, metrics = compiled(state, data)
    jax.block_until_ready(metrics["loss"])


def timed(function):
    began = time.perf_counter()
    function(BLOCK)
    return (time.perf_counter() - began) / BLOCK


def turns(other, rounds):
    return [[t / BLOCK for t in times] for times in alternate([partial(ours, BLOCK), partial(other, BLOCK)], rounds, warmup=0)]


def spread(times):
    return max(times) / min(times)


torch = None
if not alone:
    try:
        import torch
        from jaxseg.bench.peers import make_monai, make_smp
        from jaxseg.bench.torch_step import TorchStep
        net, figures = make_monai(case) if networks.network(name) is None else make_smp(case)[::2]
        row["parameters"] = [sum(p.size for p in jax.tree.leaves(kept.params)), figures["parameters"]]
        row["idle_parameters"] = figures.get("idle_parameters", 0)
    except Exception as error:
        row["torch_error"] = repr(error)[:300]
        torch = None
cuda = torch is not None and torch.cuda.is_available() and not TINY

with slots(1 if alone else places):
    with card(60):
        state, data = replicate(kept, mesh), shard_batch({"image": images, "label": labels}, mesh)
        ours(3)
        times = [timed(ours) for _ in range(ROUNDS)]
        row["jaxseg_ms"] = row["jaxseg_alone_ms"] = median_ms(times)
        row["jaxseg_spread"], row["jaxseg_blocks_ms"] = spread(times), [round(1e3 * t, 3) for t in times]
        row["jaxseg_peak_gib_with_compiling"] = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**30
        v = {"params": state.params, "batch_stats": state.batch_stats}
        forward = lambda n: jax.block_until_ready([predict(v, data["image"]) for _ in range(n)])
        forward(2)
        row["jaxseg_predict_ms"] = median_ms([timed(forward) for _ in range(ROUNDS // 2)])
        del v, forward
        add(**row)
    if torch is None:
        sys.exit()

    # theirs, as its users make it fast: jaxseg.bench.torch_step. Its batch comes augmented and normalized.
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True

    def make_step(run):
        def steps(n):
            for _ in range(n):
                theirs.step(run)
            torch.cuda.synchronize() if cuda else None

        return steps

    with card(60):
        theirs = TorchStep(net, case, "cuda" if cuda else "cpu")
        theirs.use_format("channels_last")
        eager = make_step(net)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        t = time.perf_counter()
        eager(2 if TINY else 4)
        row["eager_first_steps_s"] = time.perf_counter() - t
        a, b = turns(eager, 2 if TINY else 4)
        row["jaxseg_beside_eager_ms"], row["eager_ms"], row["eager_spread"] = median_ms(a), median_ms(b), spread(b)
        row["eager_gib"] = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
        add(**row)
    if TINY and not os.environ.get("TINY_COMPILE"):
        sys.exit()
    if cuda:
        theirs.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache(), torch.cuda.reset_peak_memory_stats()
    t = time.perf_counter()
    fast = make_step(torch.compile(net, mode=os.environ.get("PEER_MODE", "max-autotune")))
    fast(1)
    row["torch_compile_s"] = time.perf_counter() - t  # beside others, and with the time it stood still for them
    with card(60):
        fast(4)
        a, b = turns(fast, ROUNDS)
        row["jaxseg_ms"], row["compiled_ms"], row["compiled_spread"] = median_ms(a), median_ms(b), spread(b)
        row["beside_compiled_blocks_ms"] = [[round(1e3 * t, 3) for t in times] for times in (a, b)]
        row["torch_gib"] = torch.cuda.max_memory_allocated() / 2**30 if cuda else None
        row["ratio"] = row["jaxseg_ms"] / row["compiled_ms"]
        add(**row)
