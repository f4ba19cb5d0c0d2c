"""Forward mode through every op and every model: it agrees with differences and with reverse mode."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models import MODELS, architecture, create_model
from jaxseg.ops.conv import conv2d
from jaxseg.ops.max_pool import max_pool
from jaxseg.ops.meanfield import dense_crf, spatial_kernel
from jaxseg.ops.permutohedral import build_lattice, lattice_filter
from jaxseg.ops.pool import adaptive_avg_pool
from jaxseg.ops.resize import resize
from jaxseg.ops.upsample import bed_of_nails, bilinear, conv_transpose2d, max_pool_with_positions, max_unpool, nearest
from jaxseg.ops.warp import sample_bilinear

X, LATTICE = (2, 7, 6, 4), (12, 2)


def random(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def unpool(x):
    return max_unpool(*max_pool_with_positions(x), x.shape[1:3])


def crf(logits, width):
    image = 255 * jax.nn.sigmoid(random((1, 3, 4, 1), 5))
    sigma = 2 + 0.1 * width[0]
    return dense_crf(logits, image, bilateral_sigma=3.0, color_sigma=40.0, spatial_sigma=sigma, iterations=2)


# name: (function, shapes of its arguments)
OPS = {
    "dense": (partial(conv2d, padding=1), X, (3, 3, 4, 3)),
    "dense strided, dilated": (partial(conv2d, padding=2, stride=2, dilation=2), X, (3, 3, 4, 3)),
    "pointwise": (conv2d, X, (1, 1, 4, 3)),
    "pointwise strided": (partial(conv2d, stride=(2, 3)), X, (1, 1, 4, 3)),
    "depthwise": (partial(conv2d, padding=1, groups=4), X, (3, 3, 1, 4)),
    "depthwise strided, dilated": (partial(conv2d, padding=2, stride=2, dilation=2, groups=4), X, (3, 3, 1, 8)),
    "grouped strided": (partial(conv2d, padding=1, stride=2, groups=2), X, (3, 3, 2, 6)),
    "transposed": (
        partial(conv_transpose2d, stride=(2, 1), padding=(1, 0), output_padding=(1, 0)),
        (1, 4, 3, 2),
        (3, 2, 5, 2),
    ),
    "max_pool 2": (partial(max_pool, size=2), X),
    "max_pool 3 dilated": (partial(max_pool, size=3, stride=1, dilation=2), X),
    "max_pool 5 at stride 3": (partial(max_pool, size=5, stride=3), X),
    "adaptive_avg_pool": (partial(adaptive_avg_pool, size=(3, 4)), X),
    "resize": (partial(resize, size=(9, 4)), X),
    "nearest": (nearest, X),
    "bilinear": (partial(bilinear, times=3, align_corners=True), X),
    "bed_of_nails": (bed_of_nails, X),
    "max_unpool": (unpool, X),
    "sample_bilinear": (lambda x: sample_bilinear(x, random((3, 4), 1), random((3, 4), 2) + 2), (6, 5, 2)),
    "sample_bilinear where": (
        lambda y, x: sample_bilinear(random((6, 5, 2)), 2.4 + 0.1 * y, 1.6 + 0.1 * x),
        (3, 1),
        (3, 1),
    ),
    "spatial_kernel": (spatial_kernel((4, 5), 1.5), (4, 5, 2)),
    "lattice_filter": (lambda v: lattice_filter(build_lattice(3 * random(LATTICE, 3)), v), (12, 2)),
    "dense_crf": (crf, (1, 3, 4, 3), (1,)),
}


@pytest.mark.parametrize("name", OPS)
def test_forward_mode_agrees_with_differences_and_with_reverse_mode(name):
    function, *shapes = OPS[name]
    at, towards = (tuple(random(shape, 10 * n + i) for i, shape in enumerate(shapes)) for n in (1, 2))

    twice = name != "dense_crf"  # which takes long to compile

    def smooth(*arguments):  # so that there is a second derivative
        return jnp.sin(function(*arguments)).sum()

    @jax.jit
    def everything(at, towards):
        _, tangent = jax.jvp(function, at, towards)
        step = 1e-2
        ahead, behind = (function(*[a + sign * step * t for a, t in zip(at, towards, strict=True)]) for sign in (1, -1))
        weights = jnp.cos(jnp.arange(tangent.size)).reshape(tangent.shape)
        gradients = jax.vjp(function, *at)[1](weights)
        first = (
            (tangent, (ahead - behind) / (2 * step)),
            ((tangent * weights).sum(), sum((g * t).sum() for g, t in zip(gradients, towards, strict=True))),
        )
        if not twice:
            return *first, ((), ())
        slopes = partial(jax.grad, argnums=tuple(range(len(at))))
        _, forward_over_reverse = jax.jvp(slopes(smooth), at, towards)
        reverse_over_forward = slopes(lambda *at: jax.jvp(smooth, at, towards)[1])(*at)
        return *first, (forward_over_reverse, reverse_over_forward)

    (tangent, difference), (forward, reverse), (one, other) = everything(at, towards)
    scale = np.abs(tangent).max()
    assert scale > 0.1
    if not name.startswith("max_"):  # whose maxima may change hands within a step
        np.testing.assert_allclose(tangent / scale, difference / scale, atol=5e-3)
    np.testing.assert_allclose(forward, reverse, rtol=1e-4, atol=1e-4 * scale)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * max(np.abs(b).max(), 1e-3))


@pytest.mark.parametrize("name", ["pointwise strided", "depthwise strided, dilated", "grouped strided", "transposed"])
def test_mapped_over_features_over_kernels_and_over_both(name):
    function, *shapes = OPS[name]
    x, kernel = (random((2, *shape), n) for n, shape in enumerate(shapes))

    def slopes(x, kernel):
        return jax.grad(lambda *at: jnp.sin(function(*at)).sum(), argnums=(0, 1))(x, kernel)

    @jax.jit
    def run(x, kernel):
        alone = [[slopes(x[i], kernel[j]) for j in range(2)] for i in range(2)]
        over_x = jax.vmap(slopes, (0, None))(x, kernel[0])
        over_kernel = jax.vmap(slopes, (None, 0))(x[0], kernel)
        over_both = jax.vmap(slopes)(x, kernel)
        outside = jax.grad(lambda k: jax.vmap(lambda k: jnp.sin(function(x[0], k)).sum())(k).sum())(kernel)
        return alone, over_x, over_kernel, over_both, outside

    alone, over_x, over_kernel, over_both, outside = run(x, kernel)
    for part in range(2):
        for n in range(2):
            for got, expected in ((over_x, alone[n][0]), (over_kernel, alone[0][n]), (over_both, alone[n][n])):
                np.testing.assert_allclose(got[part][n], expected[part], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(outside[1], alone[0][1][1], rtol=1e-4, atol=1e-4)


def test_lattices_are_mapped_over():
    both = jax.vmap(build_lattice)(3 * random((2, 6, 2)))
    values, weights = random((2, 6, 3)), random((6, 3), 1)

    def slope(lattice, values):
        return jax.grad(lambda v: (lattice_filter(lattice, v) * weights).sum())(values)

    @jax.jit
    def run(both, values):
        lattices = [jax.tree.map(lambda leaf, n=n: leaf[n], both) for n in range(2)]
        alone = [[slope(lattice, v) for v in values] for lattice in lattices]
        outside = jax.grad(lambda v: jax.vmap(lambda lattice: (lattice_filter(lattice, v) * weights).sum())(both).sum())
        return alone, jax.vmap(slope)(both, values), jax.vmap(partial(slope, lattices[0]))(values), outside(values[0])

    alone, mapped, one_lattice, outside = run(both, values)
    for n in range(2):
        np.testing.assert_allclose(mapped[n], alone[n][n], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one_lattice[n], alone[0][n], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outside, alone[0][0] + alone[1][0], rtol=1e-5, atol=1e-6)


SMALL = {  # architecture -> what makes it quick to trace
    "cunet": {"units": 2, "features": 8, "growth": 4},
    "deconvnet": {"widths": (4, 6, 8), "convs": (1, 2, 2), "features": 16, "kernel_size": 3},
    "segnet": {"widths": (4, 6, 8), "convs": (1, 2, 2)},
    "stacked_unet": {"features": 6, "stem_features": 6, "widths": (8, 8), "counts": (1, 1), "every_stage": True},
}


def models():
    """Every class of models once, on the plain encoder, and some with the kinds of convolution that it lacks."""
    seen = set()
    for name in MODELS:
        if architecture(name) in seen:
            continue
        seen.add(architecture(name))
        small = {"encoder": "plain", "encoder_options": {"widths": (8, 8, 8, 16, 32), "convs": 1}}
        yield pytest.param(name, (small if architecture(name).default_encoder else {}) | SMALL.get(name, {}), id=name)
    for name, encoder in (("unet", "resnet18"), ("fpn", "efficientnet_lite0"), ("deeplabv3plus", "mobilenet_v2")):
        yield pytest.param(name, {"encoder": encoder}, id=f"{name}-{encoder}")


@pytest.mark.parametrize("name, options", list(models()))
def test_models_lower_in_forward_mode(name, options):
    """Nothing is compiled or run: what used to refuse did so when it was lowered."""
    model = create_model(name, num_classes=3, **options)
    image = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)

    def push(variables, image):
        apply = partial(model.apply, train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
        return jax.jvp(lambda v: apply(v, image)[0], (variables,), (variables,))

    jax.jit(push).lower(variables, jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32))


def test_forward_over_reverse_lowers_for_a_model():
    """A Hessian-vector product of a network with 1x1 convolutions and an enlarging decoder."""
    model = create_model("fpn", "plain", num_classes=3, encoder_options={"widths": (8, 8, 8, 16, 32), "convs": 1})
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image)

    def product(params, stats, image):
        def loss(params):
            outputs = model.apply({"params": params, **stats}, image, train=False)
            return jnp.sin(outputs["logits"]).sum()

        return jax.jvp(jax.grad(loss), (params,), (params,))[1]

    jax.jit(product).lower(variables["params"], {"batch_stats": variables["batch_stats"]}, image)
