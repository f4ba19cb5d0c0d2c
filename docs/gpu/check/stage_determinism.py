"""One model's training, bit for bit: `stage_determinism.py MODEL default|deterministic`.

Two processes at once, each compiling and autotuning for itself, and in each the same training twice from the same program. So
"same program" says whether the kernels that ran are deterministic, "two processes" whether the choice among them is, too.
"""
import hashlib
from common import *
import networks
CASES = {"unet": ("resnet34", "dice"), "segformer": ("mit_b0", "lovasz_softmax"), "segnet": ("", "cross_entropy")}
name, mode = sys.argv[1:3]

if not sys.argv[3:]:
    env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}  # nor XLA's cache of autotuning in it
    env["XLA_FLAGS"] = env.get("XLA_FLAGS", "") + (" --xla_gpu_deterministic_ops=true" if mode == "deterministic" and not TINY else "")
    runs = [subprocess.Popen([sys.executable, __file__, name, mode, "child"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    texts = []
    for run in runs:
        try:
            texts.append(run.communicate(timeout=max(left() - 1, 1))[0])
        except subprocess.TimeoutExpired:
            run.kill()
            texts.append(run.communicate()[0])
    found = [[json.loads(line[5:]) for line in text.splitlines() if line.startswith("HASH ")] for text in texts]
    add(kind="determinism", mode=mode, model=name, same_program=[len(set(f[0]["hashes"])) == 1 if f else None for f in found], two_processes=found[0][0]["hashes"][0] == found[1][0]["hashes"][0] if all(found) else None,
        losses=[f[0]["losses"] if f else None for f in found], compile_s=[f[0]["compile_s"] if f else None for f in found], tails=[t[-800:] for t, f in zip(texts, found) if not f])
    sys.exit()

print("import", flush=True)
register()
import jax, numpy as np
from jaxseg.config import default_config
from jaxseg.experiment import build
from jaxseg.experiment.devices import make_mesh, replicate, shard_batch
from jaxseg.models import create_model, init
from jaxseg.training.step import make_train_step
encoder, loss = CASES[name]
size, batch, steps = (32, 2, 2) if TINY else (256, 8, 12)
r = np.random.default_rng(0)
c = default_config()
c.train.steps, c.data.crop, c.data.canvas, c.augment.scale, c.augment.brightness = 100, (size, size), (size, size), (0.5, 2.0), 0.2
c.loss.terms = {"cross_entropy": 1.0, loss: 1.0}
model = create_model(name, encoder, num_classes=8, dtype="bfloat16")
with jax.default_device(jax.local_devices(backend="cpu")[0]):
    variables = init(model, jax.random.key(0))
tx = build.make_optimizer(c, build.make_schedule(c, 100))
mesh = make_mesh(1)
kept = networks.host_state(variables, tx)
new = lambda: replicate(kept, mesh)
step = make_train_step(model, tx, build.make_loss(c), augment_fn=build.make_augment(c, ignore=255, mean=(123.0,) * 3, std=(58.0,) * 3), mesh=mesh)
data = shard_batch({"image": r.integers(0, 256, (batch, size, size, 3), np.uint8), "label": r.integers(0, 8, (batch, size, size)).astype(np.uint8)}, mesh)
print("compile", flush=True)
t, state = time.perf_counter(), new()
compiled = step.lower(state, data).compile()
compile_s = time.perf_counter() - t
print("run", flush=True)
hashes, values = [], []
for _ in range(2):
    state = new()
    for i in range(steps):
        state, m = compiled(state, data)
    hashes.append(hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(state.params))).hexdigest()[:12])
    values.append(float(m["loss"]))
print("HASH " + json.dumps({"hashes": hashes, "losses": values, "compile_s": compile_s}), flush=True)
