"""Ways to do what jaxseg does, side by side on this device. `stage_ops.py CASE [FIRST]`: one case, from way number FIRST on.

Without arguments: all cases in order of worth, each a process of its own, three at a time; a way that does not come back within
WAY_LIMIT seconds is ended and the case goes on with the next.
"""
import sys
from common import *
WAY_LIMIT = 40
ORDER = ["atrous_dense", "atrous_depthwise", "attention1", "resize21", "entropy", "confusion", "resize150", "conv1x1", "depthwise7", "folded", "gelu", "attention3", "max_pool", "conv_f32", "depthwise3"]

if not sys.argv[1:]:
    chosen = [c for c in ORDER if c in os.environ.get("ONLY", ",".join(ORDER)).split(",")]
    waiting, running = list(chosen), {}
    while waiting or running:
        while waiting and len(running) < (1 if TINY else 3) and left() > 10:
            case = waiting.pop(0)
            case, first = case if isinstance(case, tuple) else (case, 0)
            (WORK / f"op_{case}").write_text(json.dumps([first, "start", time.monotonic()]))
            running[case] = subprocess.Popen([sys.executable, __file__, case, str(first)], start_new_session=True, env={**os.environ, "STAGE": f"ops:{case}"})
        if waiting and left() <= 10:
            add(kind="op", case=",".join(c if isinstance(c, str) else c[0] for c in waiting), way="-", error="not started: out of time")
            waiting = []
        for case, process in list(running.items()):
            number, way, since = json.loads((WORK / f"op_{case}").read_text())
            if process.poll() is not None:
                del running[case]
                if process.returncode:
                    add(kind="op", case=case, way=way, error=f"exit {process.returncode}")
                    if way not in ("start", "end"):
                        waiting.insert(0, (case, number + 1))
            elif left() < 2 or time.monotonic() - since > WAY_LIMIT + 20 * (way == "start"):
                os.killpg(process.pid, 9)
                process.wait()
                del running[case]
                add(kind="op", case=case, way=way, error=f"ended after {time.monotonic() - since:.0f} s")
                if way != "start" and left() > 10:
                    waiting.insert(0, (case, number + 1))
        time.sleep(0.1)
    sys.exit()

name, first = sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 0
register()
from functools import partial
import jax, jax.numpy as jnp, numpy as np
from jax import lax
import importlib
C, R, M, A = (importlib.import_module(f"jaxseg.ops.{m}") for m in ("conv", "resize", "max_pool", "attention"))  # the modules
from jaxseg.ops.cpu import depthwise, grouped
from jaxseg.ops.cpu.window import Window
from jaxseg.losses import cross_entropy
bf = jnp.bfloat16
S = 16 if TINY else 1  # shrinks the rehearsal
N = 2 if TINY else 16
done = 0
batch_of = lambda classes: N if classes < 100 else max(N // 4, 1)  # others need the card's memory too


def bench(case, ways, *args, grad=(0,)):
    """ways: {name: function of args}; the first is today's, and the one that the others are held against.

    With `grad`, forward and backward: the result and the gradients are all written, and the cotangent is an argument, as in a
    network. Without, the function alone.
    """
    global done
    reference = None
    for index, (way, f) in enumerate(ways.items()):
        number, done = done, done + 1  # of the way in the whole case
        if number < first:
            continue
        part = WORK / f"op_{name}.part"
        part.write_text(json.dumps([number, way, time.monotonic()]))
        part.replace(WORK / f"op_{name}")
        try:
            g = None
            if grad:
                y = jax.eval_shape(f, *args)
                g = jax.jit(lambda: jax.random.normal(jax.random.key(9), y.shape, jnp.float32).astype(y.dtype))()

                def h(args, g, f=f):
                    y, back = jax.vjp(lambda *p: f(*(p[grad.index(i)] if i in grad else a for i, a in enumerate(args))), *(args[i] for i in grad))
                    return y, back(g)
            else:
                h = lambda args, g, f=f: f(*args)
            t = time.perf_counter()
            compiled = jax.jit(h).lower(args, g).compile()
            compile_s = time.perf_counter() - t
            with card(25):
                out = jax.block_until_ready(compiled(args, g))
                t = time.perf_counter()
                out = jax.block_until_ready(compiled(args, g))
                once = time.perf_counter() - t
                repeat = 1 if TINY or once > 0.3 else int(min(max(0.06 / once, 2), 40))
                times = []
                for _ in range(1 if TINY or once > 0.3 else 5):
                    t = time.perf_counter()
                    for _ in range(repeat):
                        out = compiled(args, g)
                    jax.block_until_ready(out)
                    times.append((time.perf_counter() - t) / repeat)
            leaves = jax.tree.leaves(out)
            agrees = None
            if index == 0:
                reference = leaves
            elif reference:
                agrees = max(float(distance(a, b)) for a, b in zip(leaves, reference))
            memory = compiled.memory_analysis()
            add(kind="op", case=case, way=way, ms=1e3 * min(times), median_ms=median_ms(times), repeat=repeat, agrees=agrees, temp_mib=memory.temp_size_in_bytes / 2**20, out_mib=memory.output_size_in_bytes / 2**20, compile_s=compile_s)
            del out, leaves
        except Exception as error:
            add(kind="op", case=case, way=way, error=repr(error)[:300])


@jax.jit
def distance(a, b):  # on the device: gigabytes need not come to the host
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return jnp.sqrt(jnp.square(a - b).sum()) / (jnp.sqrt(jnp.square(b).sum()) + 1e-9)


def normal(shape, dtype=bf, seed=0):
    return jax.jit(lambda: jax.random.normal(jax.random.key(seed), shape, jnp.float32).astype(dtype))()


# atrous convolutions: the kernel's gradient, as XLA has it (a convolution with a kernel as large as the image) or tap by tap
def native_kernel_gradient(window, groups, shape):
    def f(x, dy):
        return jax.linear_transpose(lambda k: C._native(x, k, window, groups), jax.ShapeDtypeStruct(shape, x.dtype))(dy)[0]
    return f


def taps_of(x, window, kernel, size):
    p = depthwise._pad(x, *window.padding)
    return [depthwise._slice(p, (i * window.dilation[0], j * window.dilation[1]), size, window.stride) for i, j in window.taps(kernel)]


def patches_product(window, shape):  # the nine shifted copies side by side, one product
    def f(x, dy):
        left = jnp.concatenate(taps_of(x, window, shape[:2], dy.shape[1:3]), -1).reshape(-1, 9 * x.shape[-1])
        return jnp.einsum("np,no->po", left, dy.reshape(-1, dy.shape[-1]), preferred_element_type=jnp.float32).reshape(shape).astype(x.dtype)
    return f


def depthwise_taps(window, shape):  # a fused multiply-and-reduce a tap
    def f(x, dy):
        d = dy.astype(jnp.float32)
        return jnp.stack([(tap.astype(jnp.float32) * d).sum((0, 1, 2)) for tap in taps_of(x, window, shape[:2], dy.shape[1:3])]).reshape(shape).astype(x.dtype)
    return f


def with_kernel_gradient(window, groups, kernel_gradient):  # a whole convolution, its kernel's gradient made another way
    @jax.custom_vjp
    def f(x, k):
        return C._native(x, k, window, groups)
    def back(r, dy):
        x, k = r
        dx = jax.linear_transpose(lambda x: C._native(x, k, window, groups), x)(dy)[0]
        return dx, kernel_gradient(x, dy)
    f.defvjp(lambda x, k: (f(x, k), (x, k)), back)
    return f


def atrous_dense():
    size, c, rate = (8, 16, 2) if TINY else (32, 512, 2)
    w, shape = Window((1, 1), ((rate, rate), (rate, rate)), (rate, rate)), (3, 3, c, c)
    x, dy, k = normal((N, size, size, c)), normal((N, size, size, c), seed=1), normal(shape, seed=2)
    tap = lambda x, dy: grouped.kernel_gradient(x, dy, shape, w)
    bench(f"atrous kernel gradient {x.shape} -> {c}, rate {rate}", {"XLA (today)": native_kernel_gradient(w, 1, shape), "tap by tap, nine products": tap, "patches, one product": patches_product(w, shape)}, x, dy, grad=())
    bench(f"atrous conv {x.shape} -> {c}, rate {rate}, forward and backward", {"XLA (today)": lambda x, k: C.conv2d(x, k, padding=rate, dilation=rate), "kernel gradient tap by tap": with_kernel_gradient(w, 1, tap)}, x, k, grad=(0, 1))


def atrous_depthwise():
    size, c = (8, 16) if TINY else (32, 2048)
    for rate in (2,) if TINY else (6, 12, 18):
        w, shape = Window((1, 1), ((rate, rate), (rate, rate)), (rate, rate)), (3, 3, 1, c)
        x, dy, k = normal((N, size, size, c)), normal((N, size, size, c), seed=1), normal(shape, seed=2)
        tap = depthwise_taps(w, shape)
        bench(f"atrous depthwise kernel gradient {x.shape}, rate {rate}", {"XLA (today)": native_kernel_gradient(w, c, shape), "tap by tap, a reduction each": tap}, x, dy, grad=())
        bench(f"atrous depthwise conv {x.shape}, rate {rate}, forward and backward", {
            "XLA (today)": lambda x, k: C.conv2d(x, k, padding=rate, dilation=rate, groups=c),
            "kernel gradient tap by tap": with_kernel_gradient(w, c, tap),
            "all as shifted products": by_shifts(w),
        }, x, k, grad=(0, 1))


# the last enlargement, 128 -> 512 (SegFormer, FPN, DeepLab): matrices at HIGHEST against two taps an axis
def lerp_axis(x, axis, new, align_corners):
    before, after, w = R.bilinear_taps(x.shape[axis], new, align_corners)
    shape = [1] * x.ndim
    shape[axis] = new
    w = jnp.asarray(w, jnp.float32).reshape(shape).astype(x.dtype)
    a, b = jnp.take(x, before, axis=axis), jnp.take(x, after, axis=axis)
    return a + (b - a) * w


def lerp(x, size, align_corners=False):
    return lerp_axis(lerp_axis(x, 2, size[1], align_corners), 1, size[0], align_corners)


def lerp_matrix_backward(size, align_corners=False):  # forward two taps, backward the matrices
    @jax.custom_vjp
    def f(x):
        return lerp(x, size, align_corners)
    def back(old, dy):
        rows, columns = (R.bilinear_matrix(o, n, align_corners).T for o, n in zip(old, size))
        return (R.apply_along_height_and_width(dy, rows, columns),)
    f.defvjp(lambda x: (lerp(x, size, align_corners), x.shape[1:3]), back)
    return f


def einsum_resize(precision, size):
    def f(x):
        rows, columns = (jnp.asarray(R.bilinear_matrix(o, n), x.dtype) for o, n in zip(x.shape[1:3], size))
        y = jnp.einsum("bhwc,Ww->bhWc", x, columns, precision=precision)
        return jnp.einsum("bhWc,Hh->bHWc", y, rows, precision=precision)
    return f


def matrices(precision, size):
    def f(x):
        def multiply(matrix, x):
            m = jnp.broadcast_to(jnp.asarray(matrix, x.dtype), (x.shape[0], *matrix.shape))
            return lax.dot_general(m, x, (((2,), (1,)), ((0,), (0,))), precision=precision)
        old, R._multiply = R._multiply, multiply
        try:
            return R.resize(x, size)
        finally:
            R._multiply = old
    return f


def resize(classes):
    n, big = 128 // S, 512 // S
    size = (big, big)
    x = normal((batch_of(classes), n, n, classes), jnp.float32)
    bench(f"head resize {x.shape} -> {big}, f32", {
        "matrices, HIGHEST (today)": lambda x: R.resize(x, size),
        "two taps forward, matrices backward": lerp_matrix_backward(size),
        "two taps, gather/scatter": lambda x: lerp(x, size),
        "matrices, TF32": matrices("default", size),
        "einsum without the batch, HIGHEST": einsum_resize("highest", size),
        "einsum, TF32": einsum_resize("default", size),
        "bfloat16 logits, matrices": lambda x: R.resize(x.astype(bf), size),
        "bfloat16 logits, two taps forward, matrices backward": lambda x: lerp_matrix_backward(size)(x.astype(bf)),
        "matrices, three TF32 products": matrices(lax.DotAlgorithmPreset.TF32_TF32_F32_X3, size),
    }, x)


# attention of MiT: scores in float32, whose gradient runs in float32 too
def attention(heads, n_q, c):
    q, k, v = normal((N, n_q // S, c)), normal((N, 256, c), seed=1), normal((N, 256, c), seed=2)
    split = lambda x: x.reshape(*x.shape[:2], heads, -1)
    def library(q, k, v, implementation):
        return jax.nn.dot_product_attention(split(q), split(k), split(v), implementation=implementation).reshape(*q.shape)
    def low(q, k, v):  # products in bfloat16, softmax in float32
        s = jnp.einsum("bnhc,bmhc->bhnm", split(q), split(k)).astype(jnp.float32)
        w = jax.nn.softmax(s * (c // heads) ** -0.5).astype(q.dtype)
        return jnp.einsum("bhnm,bmhd->bnhd", w, split(v)).reshape(q.shape)
    bench(f"attention q {q.shape} kv {k.shape} heads {heads}", {
        "today": lambda q, k, v: A.dot_product_attention(q, k, v, heads=heads),
        "jax.nn, cudnn": partial(library, implementation="cudnn"),
        "products in bfloat16": low,
        "jax.nn, xla": partial(library, implementation="xla"),
    }, q, k, v, grad=(0, 1, 2))


# depthwise: cuDNN's or shifted products
def by_shifts(window):
    def f(x, k):
        @jax.custom_vjp
        def f(x, k):
            return depthwise.forward(x, k, window)
        def back(r, dy):
            x, k = r
            return depthwise.input_gradient(dy, k, x.shape, window), depthwise_taps(window, k.shape)(x, dy)
        f.defvjp(lambda x, k: (f(x, k), (x, k)), back)
        return f(x, k)
    return f


def depthwise_conv(*cases):
    for h, c, size, s in cases:
        x, k, p = normal((N, h // S, h // S, c)), normal((size, size, 1, c), seed=1), size // 2
        w = Window((s, s), ((p, p), (p, p)), (1, 1))
        bench(f"depthwise {x.shape} {size}x{size} stride {s}", {
            "cuDNN (today)": lambda x, k: C.conv2d(x, k, stride=s, padding=p, groups=c),
            "shifted products, a reduction a tap": by_shifts(w),
            "shifted products, JAX's derivative": lambda x, k: depthwise.forward(x, k, w),
        }, x, k, grad=(0, 1))


def conv1x1():
    for h, i, o in ((128, 64, 256), (32, 1024, 256), (128, 256, 64)):
        x, k = normal((N, h // S, h // S, i)), normal((1, 1, i, o), seed=1)
        bench(f"1x1 {x.shape} -> {o}", {
            "cuDNN (today)": lambda x, k: C.conv2d(x, k),
            "dot, bfloat16 out": lambda x, k: lax.dot_general(x, k[0, 0], (((3,), (0,)), ((), ()))),
        }, x, k, grad=(0, 1))


# inference: normalization after the convolution, or folded into its kernel and cuDNN's epilogue (bias, sum, ReLU)
def folded():
    for h, c in ((128, 64), (32, 512)):
        x, g, b = normal((N, h // S, h // S, c)), normal((c,), jnp.float32, 3), normal((c,), jnp.float32, 4)
        k1, k2 = (normal((3, 3, c, c), jnp.float32, i) / (3 * c**0.5) for i in (5, 6))
        def block_today(x, k1, k2, g, b):
            norm = lambda y: (y * g + b).astype(bf)
            y = jax.nn.relu(norm(C.conv2d(x, k1.astype(bf), padding=1)))
            return jax.nn.relu(x + norm(C.conv2d(y, k2.astype(bf), padding=1)))
        def block_folded(x, k1, k2, g, b):
            y = jax.nn.relu(C.conv2d(x, (k1 * g).astype(bf), padding=1) + b.astype(bf))
            return jax.nn.relu(x + (C.conv2d(y, (k2 * g).astype(bf), padding=1) + b.astype(bf)))
        bench(f"residual block in inference {x.shape}", {"norm after (today)": block_today, "norm folded": block_folded}, x, k1, k2, g, b, grad=())


def gelu():
    x = normal((N, 128 // S, 128 // S, 384))
    bench(f"gelu {x.shape}", {
        "jax.nn.gelu, exact (today)": lambda x: jax.nn.gelu(x, approximate=False),
        "checkpointed": jax.checkpoint(lambda x: jax.nn.gelu(x, approximate=False)),
        "tanh": lambda x: jax.nn.gelu(x, approximate=True),
    }, x)


def max_pool():
    from flax import linen
    x = normal((N, 256 // S, 256 // S, 64))
    bench(f"max_pool 3 stride 2 {x.shape}", {
        "shifted maxima (today)": lambda x: M.max_pool(x, 3),
        "reduce_window": lambda x: linen.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))),
    }, x)


# counting: a loop over chunks of 2**20 one-hot entries, bigger chunks, a scatter-add
def counting():
    import jaxseg.metrics.confusion as confusion
    def bincount(p, y, k):
        return jnp.zeros((k * k,), jnp.int32).at[(y * k + p).ravel()].add(1).reshape(k, k)
    def with_budget(budget):
        def f(p, y, k):
            old, confusion._ONE_HOT_BUDGET = confusion._ONE_HOT_BUDGET, budget
            try:
                return confusion.confusion_matrix(p, y, num_classes=k)
            finally:
                confusion._ONE_HOT_BUDGET = old
        return f
    for shape, k in (((8, 1024 // S, 2048 // S), 19), ((N, 512 // S, 512 // S), 150)):
        p, y = (jax.random.randint(jax.random.key(i), shape, 0, k) for i in (0, 1))
        bench(f"confusion {shape} {k} classes", {
            "chunks of 2**20 (today)": partial(with_budget(2**20), k=k),
            "scatter-add": partial(bincount, k=k),
            "chunks of 2**24": partial(with_budget(2**24), k=k),
            "chunks of 2**27": partial(with_budget(2**27), k=k),
        }, p, y, grad=())


# cross entropy at full resolution; own: no gather, no scatter, the gradient is softmax - one-hot
@jax.custom_vjp
def own_entropy(x, y, w):
    return own_forward(x, y, w)[0]


def own_forward(x, y, w):
    z = x.astype(jnp.float32)
    log_sum = jax.nn.logsumexp(z, axis=-1)
    target = y[..., None] == jnp.arange(x.shape[-1])
    loss = log_sum - jnp.where(target, z, 0.0).sum(-1)
    count = jnp.maximum(w.sum(), 1)
    return jnp.where(w, loss, 0.0).sum() / count, (x, y, w, log_sum, count)


def own_backward(r, g):
    x, y, w, log_sum, count = r
    target = y[..., None] == jnp.arange(x.shape[-1])
    p = jnp.exp(x.astype(jnp.float32) - log_sum[..., None])
    return jnp.where(w[..., None], (p - target) * (g / count), 0.0).astype(x.dtype), None, None


own_entropy.defvjp(own_forward, own_backward)


def entropy():
    import optax
    for k in (21, 150):
        shape = (batch_of(k), 512 // S, 512 // S)
        x, y = normal((*shape, k), jnp.float32), jax.random.randint(jax.random.key(3), shape, 0, k)
        w = jax.random.uniform(jax.random.key(4), y.shape) < 0.9
        bench(f"cross entropy {x.shape}", {
            "jaxseg (today)": lambda x, y, w: cross_entropy(x, y, where=w),
            "own backward": own_entropy,
            "optax": lambda x, y, w: jnp.where(w, optax.softmax_cross_entropy_with_integer_labels(x, y), 0).sum() / w.sum(),
            "bfloat16 logits, own backward": lambda x, y, w: own_entropy(x.astype(bf), y, w),
        }, x, y, w)


def conv_f32():
    x, k = normal((N, 128 // S, 128 // S, 64), jnp.float32), normal((3, 3, 64, 64), jnp.float32, 1)
    bench(f"conv 3x3 {x.shape} f32", {
        "TF32 (today)": lambda x, k: C.conv2d(x, k, padding=1),
        "bfloat16": lambda x, k: C.conv2d(x.astype(bf), k.astype(bf), padding=1),
        "HIGHEST": lambda x, k: lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"),
    }, x, k, grad=(0, 1))


{
    "atrous_dense": atrous_dense, "atrous_depthwise": atrous_depthwise, "attention1": partial(attention, 1, 16384, 64), "attention3": partial(attention, 5, 1024, 320),
    "resize21": partial(resize, 21), "resize150": partial(resize, 150), "entropy": entropy, "confusion": counting, "conv1x1": conv1x1, "depthwise7": partial(depthwise_conv, (128, 96, 7, 1)),
    "depthwise3": partial(depthwise_conv, (128, 256, 3, 1), (256, 96, 3, 2)), "folded": folded, "gelu": gelu, "max_pool": max_pool, "conv_f32": conv_f32,
}[name]()
(WORK / f"op_{name}").write_text(json.dumps([99, "end", time.monotonic()]))
