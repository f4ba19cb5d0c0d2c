"""CPU against GPU in one process: `stage_correct.py losses`, or a model's logits, loss and gradients, with running statistics.

With batch statistics of an untrained network the gradient is ill-conditioned: rounding alone moves it as much as an error would.
"""
from common import *
os.environ["JAX_PLATFORMS"] = "cpu" if TINY else "cuda,cpu"
if not TINY:
    register()
import jax, jax.numpy as jnp, numpy as np
from jaxseg.models import create_model, init
from jaxseg import losses
cpu = jax.devices("cpu")[0]
gpu = jax.devices()[0]
MODELS = {"unet": "resnet18", "segformer": "mit_b0", "fpn": "efficientnet_lite0", "deeplabv3plus": "mobilenet_v2", "upernet": "convnext_tiny", "segnet": "", "deconvnet": ""}


def both(f, *args):
    return [jax.tree.map(np.asarray, jax.jit(f)(*jax.device_put(args, device))) for device in (cpu, gpu)]


def error(a, b):
    a, b = (np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(t)]) for t in (a, b))
    return float(np.linalg.norm(a - b) / (np.linalg.norm(a) + 1e-12))


def losses_and_metrics():
    from jaxseg.metrics.confusion import confusion_matrix
    logits = jax.random.normal(jax.random.key(0), (2, 48, 40, 5)) * 3
    labels = jax.random.randint(jax.random.key(1), (2, 48, 40), 0, 5)
    where = jax.random.uniform(jax.random.key(2), labels.shape) < 0.8
    p = jax.random.randint(jax.random.key(3), labels.shape, 0, 5)
    a, b = both(lambda p, y, w: confusion_matrix(p, y, num_classes=5, where=w), p, labels, where)
    add(kind="correct", what="confusion matrix", equal=bool((a == b).all()))
    worst = {}
    for name, loss in list(losses.LOSSES.items())[: 3 if TINY else None]:
        try:
            a, b = both(jax.value_and_grad(lambda x: loss(x, labels, where=where)), logits)
            worst[name] = max(error(a[0], b[0]), error(a[1], b[1]))
        except Exception as e:
            add(kind="correct", what=f"loss {name}", error=repr(e)[:200])
        if left() < 3:
            break
    add(kind="correct", what="losses, value and gradient, f32", worst=max(worst.items(), key=lambda kv: kv[1]), above_1e_4={k: v for k, v in worst.items() if v > 1e-4}, count=len(worst), of=len(losses.LOSSES))


def model(name, dtype, precision):
    encoder = MODELS[name]
    m = create_model(name, encoder, num_classes=7, dtype=dtype)
    size = 64 if TINY else 96
    with jax.default_device(cpu):
        v = init(m, jax.random.key(0))
        x = jax.random.normal(jax.random.key(1), (2, size, size, 3))
        y = jax.random.randint(jax.random.key(2), (2, size, size), 0, 7)

    def f(v, x, y):
        def loss(params):
            logits = m.apply({**v, "params": params}, x, train=False)["logits"]
            return losses.cross_entropy(logits, y), logits

        (value, logits), grads = jax.value_and_grad(loss, has_aux=True)(v["params"])
        return logits, value, grads

    with jax.default_matmul_precision(precision):
        a, b = both(f, v, x, y)
    worst = sorted(((error(p, q), jax.tree_util.keystr(path)) for (path, p), q in zip(jax.tree_util.tree_leaves_with_path(a[2]), jax.tree.leaves(b[2])) if np.linalg.norm(p) > 1e-6), reverse=True)[:2]
    row = dict(logits=error(a[0], b[0]), loss=error(a[1], b[1]), gradient=error(a[2], b[2]), worst_leaves=worst, same_class=float((a[0].argmax(-1) == b[0].argmax(-1)).mean()))
    if (dtype, precision) != ("float32", "highest"):  # what rounding explains: the GPU against the exact CPU, and the CPU so
        row |= {"exact_" + k: error(reference[i], b[i]) for i, k in enumerate(("logits", "loss", "gradient")) if reference}
        row |= {"cpu_against_exact_" + k: error(reference[i], a[i]) for i, k in enumerate(("logits", "loss", "gradient")) if reference}
    add(kind="correct", what=f"{name}/{encoder} {dtype} {precision}, running statistics", xla_flags=os.environ.get("XLA_FLAGS", ""), **row)
    return a


argument = sys.argv[1]
if argument == "losses":
    losses_and_metrics()
else:
    reference = None
    for dtype, precision in (("float32", "highest"), ("float32", "default"), ("bfloat16", "default")):
        if left() < 5 or TINY and dtype == "bfloat16":
            break
        try:
            found = model(argument, dtype, precision)
            reference = reference or found
        except Exception as e:
            add(kind="correct", what=f"{argument} {dtype} {precision}", error=repr(e)[:300])
