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
model_name, encoder, arch, smp_encoder, batch, size, stride, classes, dtype, places = networks.CASES[name]
if TINY:
    batch, size = 2, 64
BLOCK, ROUNDS = (1, 2) if TINY else (5, 6)
MARKS = WORK / "compiled"
MARKS.mkdir(exist_ok=True)
register()

import gzip, re
from functools import partial
import jax, numpy as np
from jaxseg.experiment import build
from jaxseg.experiment.devices import batched, make_mesh, replicate, replicated, shard_batch
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.inference.predict import predict_step
from jaxseg.models import init, pixel_statistics
from jaxseg.training.step import make_train_step

row = dict(kind="pair", name=name, variant=variant, batch=batch, size=size, dtype=dtype, device=jax.devices()[0].device_kind, xla_flags=os.environ.get("XLA_FLAGS", ""))
random = np.random.default_rng(0)
images = random.integers(0, 256, (batch, size, size, 3), np.uint8)
labels = random.integers(0, classes, (batch, size, size)).astype(np.uint8)

# ours: the very step that train.py runs, augmentation (a flip) and norm of the gradient included
c = networks.config(name, batch, size)
model = build.build_model(c, classes)
mean, std = pixel_statistics(model)
t = time.perf_counter()
with jax.default_device(jax.local_devices(backend="cpu")[0]):
    variables = init(model, jax.random.key(c.seed), image_size=(size, size))
tx = build.make_optimizer(c, build.make_schedule(c, c.train.steps))
kept = networks.host_state(variables, tx)  # on the host until it is timed
del variables
row["jaxseg_init_s"] = time.perf_counter() - t
mesh = make_mesh(1)
step = make_train_step(model, tx, build.make_loss(c), augment_fn=build.make_augment(c, ignore=255, mean=mean, std=std), mesh=mesh, seed=c.seed, ema_decay=c.optim.ema or None, freeze=tuple(c.optim.freeze), grad_norm=c.log.grad_norm)
shapes = lambda tree, sharding: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
abstract = shapes(kept, replicated(mesh)), shapes({"image": images, "label": labels}, batched(mesh))
t = time.perf_counter()
lowered = step.trace(*abstract).lower()
row["jaxseg_trace_s"] = time.perf_counter() - t
t = time.perf_counter()
compiled = lowered.compile()
row["jaxseg_compile_s"] = time.perf_counter() - t
t = time.perf_counter()
predict = jax.jit(partial(predict_step, partial(model.apply, train=False), preprocessing=Preprocessing(mean, std)))  # uint8 in, class ids out
predict = predict.lower({"params": abstract[0].params, "batch_stats": abstract[0].batch_stats}, abstract[1]["image"]).compile()
row["jaxseg_predict_compile_s"] = time.perf_counter() - t
memory = compiled.memory_analysis()
row["jaxseg_temp_gib"] = memory.temp_size_in_bytes / 2**30
row["jaxseg_step_gib"] = (memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes) / 2**30
try:
    text = compiled.as_text()
    entry = text[text.index("\nENTRY "):]
    row["kernels"] = entry.count("fusion(") + entry.count("custom-call(")
    row["hlo_convs_f32"] = len(re.findall(r"= \(f32\[[^=]*__cudnn\$conv", text))
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
    blocks = [], []
    for _ in range(rounds):
        blocks[0].append(timed(ours))
        blocks[1].append(timed(other))
    return blocks


def spread(times):
    return max(times) / min(times)


torch = None
if not alone:
    try:
        import torch
        from jaxseg.bench.peers import _import_smp  # also where torchvision was built for another torch
        smp = _import_smp()
        options = {"encoder_output_stride": stride} if stride and arch != "pspnet" else {}
        net = smp.create_model(arch, smp_encoder, encoder_weights=None, classes=classes, **options)
        row["parameters"] = [sum(p.size for p in jax.tree.leaves(kept.params)), sum(p.numel() for p in net.parameters())]
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

    # theirs, as its users make it fast: channels_last, autocast, cudnn.benchmark, TF32 (JAX's default too), fused AdamW
    device = torch.device("cuda" if cuda else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True

    def make_step(net):
        def loss_of(x, y):  # what our step does too: float, normalize, flip a half, forward, cross entropy
            x = (x.float() - 123.0) / 58.0
            flip = torch.rand(x.shape[0], 1, 1, 1, device=x.device) < 0.5
            x = torch.where(flip, x.flip(3), x).contiguous(memory_format=torch.channels_last)
            y = torch.where(flip[:, 0], y.flip(2), y).long()
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
                logits = net(x)
            return torch.nn.functional.cross_entropy(logits.float(), y)

        def run(n):
            for _ in range(n):
                optimizer.zero_grad(set_to_none=True)
                loss = loss_of(x, y)
                loss.backward()
                optimizer.step()
            torch.cuda.synchronize() if cuda else None

        return run

    with card(60):
        net = net.to(device, memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, **({"fused": True} if cuda else {}))
        x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)  # uint8, channels_last in memory
        y = torch.from_numpy(labels).to(device)
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
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache(), torch.cuda.reset_peak_memory_stats()
    t = time.perf_counter()
    fast = make_step(torch.compile(net))
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
