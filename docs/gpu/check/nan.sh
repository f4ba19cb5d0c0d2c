#!/bin/bash
# Where the first NaN of SegFormer / MiT-B0 appears on a GPU. In the checkout's root: bash docs/gpu/check/nan.sh
# Eight processes at once, each compiling for itself (16 cores: 40 to 80 s); rows go to $OUT/nan.jsonl as they come.
# TINY=1 rehearses on a CPU (SKIP_INSTALL=1: without the wheels).
set -u
export OUT="${OUT:-/tmp/gpu_nan_out}" PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore TF_CPP_MIN_LOG_LEVEL=3 XLA_PYTHON_CLIENT_PREALLOCATE=false
mkdir -p "$OUT"
if ls .whl/*.whl >/dev/null 2>&1 && [ -z "${SKIP_INSTALL:-}" ]; then
  [ -d /tmp/site/grain ] || python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site .whl/*.whl || exit 1
  export PYTHONPATH="/tmp/site:${PYTHONPATH:-}"
fi
export PYTHONPATH="$PWD:${PYTHONPATH:-}"
script=$(mktemp --suffix .py)
cat > "$script" <<'PY'
import collections, hashlib, json, os, sys, time
what, dtype, lovasz, mode = sys.argv[1:5]
TINY, OUT, BEGAN = bool(os.environ.get("TINY")), os.environ["OUT"], time.time()
import jax, jax.numpy as jnp, numpy as np

def add(**row):
    row = {"what": what, "dtype": dtype, "lovasz": lovasz, "mode": mode, **row, "at": round(time.time() - BEGAN, 1)}
    with open(f"{OUT}/nan.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row)[:600], flush=True)

def digest(tree):
    return hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(tree))).hexdigest()[:8]

def bad(tree):  # {path: values that are not finite}
    found = {}
    for path, x in jax.tree_util.tree_leaves_with_path(tree):
        x = np.asarray(x).astype(np.float32) if jnp.issubdtype(x.dtype, jnp.floating) else np.zeros(1)
        if not np.isfinite(x).all():
            found[jax.tree_util.keystr(path)] = int((~np.isfinite(x)).sum())
    return found

def pieces():
    """The parts that neither U-Net nor SegNet has, three times each, against a CPU's (numpy's for the sorts)."""
    from functools import partial
    from jax import lax
    from jaxseg.losses import lovasz_softmax, cross_entropy
    from jaxseg.losses.lovasz import jaccard_slopes
    from jaxseg.ops.attention import dot_product_attention
    from jaxseg.ops.conv import conv2d
    from jaxseg.ops.resize import resize
    from jaxseg.blocks.layer_norm import LayerNorm
    r = np.random.default_rng(0)
    b, s = (2, 32) if TINY else (8, 256)
    n = b * s * s
    errors = r.random((1, 8, n), np.float32)
    ids = r.integers(0, 8, n)
    where = np.broadcast_to(r.random(n) < 0.8, errors.shape)
    target = (ids == np.arange(8)[:, None])[None] & where
    order = np.argsort(np.where(where, -errors, 1.0), axis=-1, kind="stable").astype(np.int32)
    key, place = np.where(where, -errors, 1.0).astype(np.float32), np.broadcast_to(np.arange(n, dtype=np.int32), errors.shape)
    def low(shape, scale=1.0, dt=jnp.bfloat16):
        return jnp.asarray(scale * r.normal(size=shape), dt)
    def both(f, argnums):  # the result and the gradients of its sum with random weights
        def g(*a):
            y, back = jax.vjp(f, *a)
            w = jax.random.normal(jax.random.key(1), y.shape).astype(y.dtype)
            return y, [back(w)[i] for i in argnums]
        return g
    q = s // 4
    ln = LayerNorm(dtype=jnp.bfloat16)
    gelu = partial(jax.nn.gelu, approximate=False)
    vjp = lambda f: (lambda *a: both(f, range(len(a)))(*a))
    cases = {
        "sort by float": (lambda: lax.sort((key, place), num_keys=1)[1], (), order),
        "sort by integer": (lambda o: lax.sort((o, jnp.broadcast_to(jnp.arange(n, dtype=jnp.float32), o.shape)), num_keys=1)[1], (order,), np.argsort(order, axis=-1).astype(np.float32)),
        "cumsum": (lambda o: lax.cumsum(o & 1, axis=2), (order,), np.cumsum(order & 1, -1, dtype=np.int32)),
        "slopes": (jaccard_slopes, (errors, target, where), None),
        "lovasz and gradient": (jax.value_and_grad(lambda x, y, w: lovasz_softmax(x, y, where=w)), (low((b, s, s, 8), 2, jnp.float32), ids.reshape(b, s, s), where[0, 0].reshape(b, s, s)), None),
        "entropy and gradient": (jax.value_and_grad(lambda x, y, w: cross_entropy(x, y, where=w)), (low((b, s, s, 8), 2, jnp.float32), ids.reshape(b, s, s), where[0, 0].reshape(b, s, s)), None),
    }
    for stage, (side, c, ratio, heads) in enumerate(((q, 32, 8, 1), (q // 2, 64, 4, 2), (q // 4, 160, 2, 5), (q // 8, 256, 1, 8)), 1):
        m = max(side // ratio, 1) ** 2
        cases |= {
            f"attention {stage}": (vjp(partial(dot_product_attention, heads=heads)), (low((b, side * side, c)), low((b, m, c)), low((b, m, c))), None),
            f"depthwise {stage}": (vjp(lambda x, k, c=c: conv2d(x, k, padding=1, groups=4 * c)), (low((b, side, side, 4 * c)), low((3, 3, 1, 4 * c))), None),
            f"reduce {stage}": (vjp(lambda x, k, ratio=ratio: conv2d(x, k, stride=ratio)), (low((b, side, side, c)), low((ratio, ratio, c, c), 0.1)), None),
            f"layer norm {stage}": (vjp(lambda x, scale: ln.apply({"params": {"scale": scale, "bias": jnp.zeros_like(scale)}}, x, train=True)), (low((b, side, side, c)), low((c,), 1, jnp.float32)), None),
            f"resize {stage}": (vjp(lambda x: resize(x, (q, q))), (low((b, side, side, 256)),), None),
        }
    cases["gelu"] = (vjp(gelu), (low((b, q, q, 128), 3),), None)
    cases["stem"] = (vjp(lambda x, k: conv2d(x, k, stride=4, padding=3)), (low((b, s, s, 3)), low((7, 7, 3, 32), 0.1)), None)
    cases["head resize"] = (vjp(lambda x: resize(x, (s, s), align_corners=True)), (low((b, q, q, 8), 1, jnp.float32),), None)
    cpu = jax.devices("cpu")[0]
    for name, (f, args, expected) in cases.items():
        if dtype == "a" and not name.startswith(("sort", "cumsum", "slopes", "lovasz", "entropy")) or dtype == "b" and name.startswith(("sort", "cumsum", "slopes", "lovasz", "entropy")):
            continue
        try:
            g = jax.jit(f)
            found = [jax.tree.map(np.asarray, g(*args)) for _ in range(3)]
            if expected is None:
                with jax.default_device(cpu):
                    expected = jax.tree.map(np.asarray, jax.jit(f)(*jax.tree.map(lambda x: jax.device_put(x, cpu), args)))
            flat = lambda t: np.concatenate([np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(t)])
            a, e = flat(found[0]), flat(expected)
            add(case=name, same=len({digest(x) for x in found}) == 1, not_finite=[sum(bad(x).values()) for x in found], error=float(np.linalg.norm(a - e) / (np.linalg.norm(e) + 1e-12)))
        except Exception as problem:
            add(case=name, error=repr(problem)[:300])

def train():
    from jaxseg.config import default_config
    from jaxseg.experiment import build
    from jaxseg.experiment.devices import make_mesh, replicate, shard_batch
    from jaxseg.experiment.state import create_state
    from jaxseg.models import create_model, init
    from jaxseg.training.step import make_train_step
    import optax
    size, batch, steps = (32, 2, 3) if TINY else (256, 8, 12)
    r = np.random.default_rng(0)
    c = default_config()
    c.train.steps, c.data.crop, c.data.canvas, c.augment.scale, c.augment.brightness = 100, (size, size), (size, size), (0.5, 2.0), 0.2
    c.loss.terms = {"cross_entropy": 1.0, "lovasz_softmax": 1.0} if lovasz == "lovasz" else {"cross_entropy": 1.0}
    model = create_model("segformer", "mit_b0", num_classes=8, dtype=dtype)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        variables = jax.device_get(init(model, jax.random.key(0)))
    tx = build.make_optimizer(c, build.make_schedule(c, 100))
    mesh, loss_fn = make_mesh(1), build.make_loss(c)
    augment = build.make_augment(c, ignore=255, mean=(123.0,) * 3, std=(58.0,) * 3)
    data = shard_batch({"image": r.integers(0, 256, (batch, size, size, 3), np.uint8), "label": r.integers(0, 8, (batch, size, size)).astype(np.uint8)}, mesh)
    shapes = jax.eval_shape(lambda v: create_state(v, tx), variables)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    kept = zeros.replace(params=variables["params"], batch_stats=variables["batch_stats"])
    if what == "step":
        step = make_train_step(model, tx, loss_fn, augment_fn=augment, mesh=mesh, grad_norm=True).lower(replicate(kept, mesh), data).compile()
        add(compiled=True)
        for turn in range(2):
            state, rows, before = replicate(kept, mesh), [], None
            for i in range(steps):
                before = jax.device_get(state)
                state, m = step(state, data)
                rows.append([i, {k: float(v) for k, v in m.items()}, digest(state.params), sum(bad(state.params).values())])
                if rows[-1][3] or not np.isfinite(rows[-1][1]["loss"]):
                    np.savez_compressed(f"{OUT}/before_{dtype}_{lovasz}_{mode}_{turn}.npz", step=i, **{jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(before.params)})
                    break
            add(turn=turn, steps=rows, not_finite=dict(list(bad(state.params).items())[:12]))
        return

    def diagnose(state, data):  # the step, with every module's result and every gradient looked at
        key = jax.random.fold_in(jax.random.key(0), state.step)
        augment_key, forward_key = jax.random.split(key)
        sample = augment(augment_key, data)
        def objective(params):
            outputs, new = model.apply({"params": params, "batch_stats": state.batch_stats}, sample["image"], train=True, mutable=["batch_stats", "intermediates"], rngs={"dropout": forward_key}, capture_intermediates=True)
            found = loss_fn(outputs, sample["label"], sample["where"], state.step)
            loss, parts = found if isinstance(found, tuple) else (found, {})
            seen = jax.tree.map(lambda x: jnp.stack([(~jnp.isfinite(x)).sum().astype(jnp.float32), jnp.abs(x.astype(jnp.float32)).max()]), new["intermediates"])
            return loss, (new["batch_stats"], parts, seen)
        (loss, (stats, parts, seen)), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        looked = jax.tree.map(lambda g: jnp.stack([(~jnp.isfinite(g)).sum().astype(jnp.float32), jnp.abs(g).max()]), grads)
        image = jnp.stack([(~jnp.isfinite(sample["image"])).sum().astype(jnp.float32), sample["where"].mean(axis=(1, 2)).min()])
        return state.replace(step=state.step + 1, params=optax.apply_updates(state.params, updates), batch_stats=stats, opt_state=opt_state), loss, parts, seen, looked, image

    state = replicate(kept, mesh)
    f = jax.jit(diagnose).lower(state, data).compile()
    add(compiled=True)
    for i in range(steps):
        state, loss, parts, seen, looked, image = jax.device_get(f(state, data))
        named = lambda tree: {jax.tree_util.keystr(p): [float(v) for v in x] for p, x in jax.tree_util.tree_leaves_with_path(tree)}
        forward, gradient = named(seen), named(looked)
        wrong = lambda d: {k: v for k, v in d.items() if v[0] or not np.isfinite(v[1])}
        top = lambda d: sorted(((v[1], k) for k, v in d.items()), reverse=True)[:3]
        add(step=i, loss=float(loss), parts={k: float(v) for k, v in parts.items()}, image=image.tolist(), forward_bad=dict(list(wrong(forward).items())[:10]), gradient_bad=dict(list(wrong(gradient).items())[:10]), gradients_bad=len(wrong(gradient)), forward_top=top(forward), gradient_top=top(gradient))
        state = replicate(state, mesh)
        if wrong(forward) or wrong(gradient) or not np.isfinite(loss):
            break

pieces() if what == "pieces" else train()
PY
DET=--xla_gpu_deterministic_ops=true; L0=--xla_gpu_autotune_level=0
[ -n "${TINY:-}" ] && { DET=; L0=; }
go() { flags=$1; shift; env JAX_PLATFORMS="${PLATFORMS:-cuda,cpu}" ${flags:+XLA_FLAGS=$flags} timeout "${LIMIT:-150}" python3 "$script" "$@" > "$OUT/log_$(echo "$*" | tr ' ' _).txt" 2>&1; }
if [ -n "${TINY:-}" ]; then
  export PLATFORMS=cpu
  go "" pieces a - default; go "" pieces b - default; go "" step bfloat16 lovasz default; go "" diagnose float32 lovasz default
else
  go "$DET" pieces a - deterministic &
  go "$DET" pieces b - deterministic &
  go "$L0" pieces a - level0 &
  go "$DET" step bfloat16 lovasz deterministic &      # what ended with NaN on 2026-11-26
  go "$DET" step bfloat16 entropy deterministic &     # is it the loss?
  go "$DET" step float32 lovasz deterministic &       # is it bfloat16?
  go "$L0" step bfloat16 lovasz level0 &              # is it the flag?
  go "$DET" diagnose bfloat16 lovasz deterministic &  # which module, which gradient
  wait
fi
cat "$OUT"/log_*.txt | grep -v '^{' | tail -40 > "$OUT/errors.txt"; rm -f "$OUT"/log_*.txt
cat "$OUT/nan.jsonl" | cut -c1-1500
