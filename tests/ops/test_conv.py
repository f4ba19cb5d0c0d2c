"""conv2d and its gradients against a direct convolution in NumPy, float64, and its adjoints."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxseg.checks import UserError
from jaxseg.ops import atrous
from jaxseg.ops.conv import conv2d
from jaxseg.ops.cpu import columns, dense, depthwise, tiles
from jaxseg.ops.cpu.window import Window

# name: (height, width), input and output channels, kernel, stride, padding, dilation, groups
CASES = {
    "dense": ((7, 6), 3, 4, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "dense narrowing": ((6, 7), 5, 2, (3, 2), (1, 1), ((0, 2), (1, 0)), (1, 1), 1),
    "dense strided": ((9, 8), 3, 4, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "dense dilated": ((9, 8), 2, 3, (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), 1),
    "dense strided, dilated": ((11, 10), 2, 3, (3, 2), (2, 3), ((2, 2), (1, 2)), (2, 3), 1),
    "dense stem, odd size": ((15, 13), 3, 4, (7, 7), (2, 2), ((3, 3), (3, 3)), (1, 1), 1),
    "grouped": ((6, 7), 6, 4, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 2),
    "grouped strided": ((9, 8), 6, 9, (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 3),
    "grouped strided, dilated": ((11, 10), 4, 6, (3, 2), (2, 3), ((2, 2), (1, 2)), (2, 3), 2),
    "grouped point": ((6, 7), 6, 4, (1, 1), (2, 2), ((0, 0), (0, 0)), (1, 1), 2),
    "point": ((5, 4), 3, 7, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "point strided": ((5, 8), 3, 2, (1, 1), (2, 3), ((0, 0), (0, 0)), (1, 1), 1),
    "point padded": ((5, 4), 3, 2, (1, 1), (2, 2), ((1, 0), (0, 1)), (1, 1), 1),
    "depthwise": ((7, 6), 5, 5, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 5),
    "depthwise valid": ((7, 6), 5, 5, (3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), 5),
    "depthwise wide padding": ((4, 6), 3, 3, (3, 3), (1, 1), ((4, 3), (5, 2)), (1, 1), 3),
    "depthwise cropping": ((8, 9), 3, 3, (3, 3), (1, 1), ((-1, 1), (1, -2)), (1, 1), 3),
    "depthwise 5x5 strided": ((9, 8), 4, 4, (5, 5), (2, 2), ((2, 2), (2, 2)), (1, 1), 4),
    "depthwise TensorFlow padding": ((8, 8), 4, 4, (3, 3), (2, 2), ((0, 1), (0, 1)), (1, 1), 4),
    "depthwise dilated": ((9, 8), 4, 4, (3, 3), (1, 1), ((3, 3), (2, 2)), (3, 2), 4),
    "depthwise strided, dilated": ((11, 10), 4, 4, (3, 3), (2, 2), ((2, 2), (2, 2)), (2, 2), 4),
    "depthwise stride over the kernel": ((9, 10), 4, 4, (2, 2), (3, 4), ((1, 0), (0, 1)), (1, 1), 4),
    "depthwise multiplier": ((6, 7), 3, 6, (3, 3), (2, 1), ((1, 1), (1, 1)), (1, 1), 3),
}


def direct(x, kernel, dy, stride, padding, dilation, groups):
    """The definition, in loops: y[p] = sum over taps t of x[p * stride + t * dilation - padding] kernel[t].

    Returns y, and the gradients of <y, dy> for x and kernel.
    """
    y, dx, dkernel = np.zeros(dy.shape), np.zeros(x.shape), np.zeros(kernel.shape)
    per_group, per_output = kernel.shape[2], kernel.shape[3] // groups
    for p, q, i, j, g in np.ndindex(*dy.shape[1:3], *kernel.shape[:2], groups):
        r = p * stride[0] + i * dilation[0] - padding[0][0]
        c = q * stride[1] + j * dilation[1] - padding[1][0]
        if not (0 <= r < x.shape[1] and 0 <= c < x.shape[2]):
            continue
        ins = slice(g * per_group, (g + 1) * per_group)
        outs = slice(g * per_output, (g + 1) * per_output)
        y[:, p, q, outs] += x[:, r, c, ins] @ kernel[i, j, :, outs]
        dx[:, r, c, ins] += dy[:, p, q, outs] @ kernel[i, j, :, outs].T
        dkernel[i, j, :, outs] += x[:, r, c, ins].T @ dy[:, p, q, outs]
    return y, dx, dkernel


def output_size(name):
    (h, w), _, _, kernel, stride, padding, dilation, _ = CASES[name]
    size = zip((h, w), kernel, stride, padding, dilation, strict=True)
    return tuple((n + sum(p) - (k - 1) * r - 1) // s + 1 for n, k, s, p, r in size)


def arrays(name):
    """Returns x, kernel and dy, the gradient of the output."""
    (h, w), i, o, kernel, *_, groups = CASES[name]
    random = np.random.default_rng(0)
    shapes = (2, h, w, i), (*kernel, i // groups, o), (2, *output_size(name), o)
    return tuple(random.normal(size=shape).astype(np.float32) for shape in shapes)


def options(name):
    *_, stride, padding, dilation, groups = CASES[name]
    return dict(stride=stride, padding=padding, dilation=dilation, groups=groups)


def value_and_gradients(x, kernel, dy, **options):
    y, transpose = jax.vjp(partial(conv2d, **options), x, kernel)
    return (y, *transpose(dy))


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients(name):
    x, kernel, dy = arrays(name)
    expected = direct(x, kernel, dy, **options(name))
    got = jax.jit(partial(value_and_gradients, **options(name)))(x, kernel, dy)
    for part, e, g in zip(("y", "dx", "dkernel"), expected, got, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-4, err_msg=part)


@pytest.mark.parametrize("name", ["point strided", "depthwise 5x5 strided", "grouped strided"])
def test_bfloat16_sums_are_float32(name):
    x, kernel, dy = (np.asarray(a, jnp.bfloat16) for a in arrays(name))
    expected = direct(*(a.astype(float) for a in (x, kernel, dy)), **options(name))
    got = jax.jit(partial(value_and_gradients, **options(name)))(x, kernel, dy)
    for e, g in zip(expected, got, strict=True):
        assert g.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(g, float), e, rtol=2**-8, atol=1e-5)  # one rounding, at the end


@pytest.mark.parametrize("name", ["dense", "point strided", "depthwise TensorFlow padding"])
def test_vmap_and_checkpoint(name):
    x, kernel, dy = arrays(name)
    function = partial(value_and_gradients, **options(name))
    expected = direct(x, kernel, dy, **options(name))

    def remade(x, kernel, dy):
        def loss(x, kernel):
            y = jax.checkpoint(partial(conv2d, **options(name)))(x, kernel)
            return (y * dy).sum()

        return jax.grad(loss, argnums=(0, 1))(x, kernel)

    twice = jax.jit(jax.vmap(function, in_axes=(0, None, 0)))(x[:, None], kernel, dy[:, None])
    np.testing.assert_allclose(twice[0][:, 0], expected[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(twice[1][:, 0], expected[1], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(twice[2].sum(0), expected[2], rtol=1e-5, atol=1e-4)
    for e, g in zip(expected[1:], jax.jit(remade)(x, kernel, dy), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("tile", [1, 1700, 10**6])
@pytest.mark.parametrize("name", ["dense", "dense strided, dilated", "dense narrowing"])
def test_dense_kernel_gradient_takes_tiles_of_any_size(name, tile, monkeypatch):
    """A tile is a row of one image, some rows of one or of both, or everything."""
    x, kernel, dy = arrays(name)
    monkeypatch.setattr(tiles, "TILE", tile)
    stride, padding, dilation, _ = options(name).values()
    got = tiles.kernel_gradient(jnp.asarray(x), jnp.asarray(dy), kernel.shape, Window(stride, padding, dilation))
    np.testing.assert_allclose(got, direct(x, kernel, dy, **options(name))[2], rtol=1e-5, atol=1e-4)


@pytest.fixture
def own_limits(monkeypatch):
    """Limits of its own for a test; they are no part of what JAX remembers a program by."""
    jax.clear_caches()
    yield monkeypatch
    jax.clear_caches()


def assert_kernel_gradient_is_a_product(x, kernel, dy, elsewhere, **options):
    """On a CPU, and rounded once; the platform `elsewhere` has three convolutions."""
    function = jax.jit(partial(value_and_gradients, **options))
    expected = direct(x, kernel, dy, **options)
    for part, e, g in zip(("y", "dx", "dkernel"), expected, function(x, kernel, dy), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-4, err_msg=part)
    low = [np.asarray(a, jnp.bfloat16) for a in (x, kernel, dy)]
    rounded = direct(*(a.astype(float) for a in low), **options)[2]
    np.testing.assert_allclose(np.asarray(function(*low)[2], float), rounded, rtol=2**-8, atol=1e-5)
    lowered = {
        platform: function.trace(x, kernel, dy).lower(lowering_platforms=(platform,)).as_text()
        for platform in (elsewhere, "cpu")
    }
    assert lowered[elsewhere].count("stablehlo.convolution") == 3
    assert lowered["cpu"].count("stablehlo.convolution") == 2


@pytest.mark.parametrize("name", ["dense", "dense strided", "dense narrowing"])
def test_large_kernel_gradients_are_products_tile_by_tile(name, own_limits):
    x, kernel, dy = arrays(name)
    own_limits.setattr(tiles, "CACHE", dy.nbytes)
    assert_kernel_gradient_is_a_product(x, kernel, dy, "cuda", **options(name))
    own_limits.setattr(tiles, "CACHE", dy.nbytes + 1)
    window = Window(*list(options(name).values())[:3])
    assert dense.is_xla(x.shape, kernel.shape, window)
    own_limits.setattr(tiles, "CACHE", 10**9)
    own_limits.setattr(tiles, "PIXELS", dy[..., 0].size)
    assert not dense.is_xla(x.shape, kernel.shape, window)  # its outputs are no multiple of a vector
    assert dense.is_xla(x.shape, (*kernel.shape[:3], tiles.VECTOR), window)


DENSE = [name for name in CASES if name.startswith("dense")]


@pytest.mark.parametrize("name", DENSE)
def test_kernel_gradients_of_small_deep_images_are_one_product(name, own_limits):
    x, kernel, dy = arrays(name)
    own_limits.setattr(columns, "WEIGHTS", 1)
    own_limits.setattr(columns, "PIXELS", 1)
    assert_kernel_gradient_is_a_product(x, kernel, dy, "rocm", **options(name))


@pytest.mark.parametrize(
    "pixels, inputs, outputs, way",
    [
        ((16, 16), 256, 256, columns),
        ((64, 64), 1024, 64, columns),  # the side of 64 channels is laid out, 9.4 MB
        ((64, 64), 128, 128, None),  # 19 MB
        ((256, 256), 64, 64, tiles),
        ((16, 16), 64, 64, None),  # too little to do
        ((8, 8), 512, 512, None),  # as 64 pixels are
    ],
)
def test_kernel_gradients_by_size(pixels, inputs, outputs, way):
    window = Window(padding=((1, 1), (1, 1)))
    x, dy, kernel = (1, *pixels, inputs), (1, *pixels, outputs), (3, 3, inputs, outputs)
    assert dense._way(x, dy, kernel, window) is way


def test_second_derivatives():
    """A Hessian-vector product both ways equals that of XLA's own convolution."""
    x, kernel, _ = arrays("depthwise 5x5 strided")

    def native(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (2, 2), ((2, 2), (2, 2)), None, None, numbers, 4)

    def products(convolve):
        def slope(kernel):
            return jax.grad(lambda k: jnp.sin(convolve(x, k)).sum())(kernel)

        forward = jax.jvp(slope, (kernel,), (jnp.ones_like(kernel),))[1]
        return forward, jax.grad(lambda kernel: slope(kernel).sum())(kernel)

    ours = jax.jit(lambda: products(partial(conv2d, **options("depthwise 5x5 strided"))))()
    for g, e in zip(ours, jax.jit(lambda: products(native))(), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["dense", "point", "depthwise 5x5 strided", "grouped strided"])
def test_other_platforms_get_the_native_convolution(name):
    """What is lowered for CUDA holds convolutions only; for a CPU, none where there is a better way."""
    on_cpu = {"dense": 3, "grouped strided": 2}.get(name, 0)
    lowered = {}
    for platform in ("cuda", "cpu"):
        function = jax.jit(partial(value_and_gradients, **options(name)))
        lowered[platform] = jax.export.export(function, platforms=[platform])(*arrays(name)).mlir_module()
    assert lowered["cuda"].count("stablehlo.convolution") == 3
    assert "dot_general" not in lowered["cuda"] and "while" not in lowered["cuda"]
    assert lowered["cpu"].count("stablehlo.convolution") == on_cpu


ATROUS = ["dense dilated", "dense strided, dilated", "depthwise dilated", "depthwise strided, dilated"]


@pytest.mark.parametrize("name", [*ATROUS, "depthwise multiplier"])
def test_the_kernel_gradient_of_nvidia_gpus_is_the_definition(name):
    """Those functions run on every platform; `conv2d` takes them on a GPU only."""
    x, kernel, dy = arrays(name)
    stride, padding, dilation, groups = options(name).values()
    gradient = atrous.depthwise_kernel_gradient if groups > 1 else atrous.dense_kernel_gradient
    got = jax.jit(gradient, static_argnums=(2, 3))(x, dy, kernel.shape, Window(stride, padding, dilation))
    expected = direct(x, kernel, dy, **options(name))[2]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)
    low = gradient(*(jnp.asarray(a, jnp.bfloat16) for a in (x, dy)), kernel.shape, Window(stride, padding, dilation))
    rounded = direct(*(a.astype(jnp.bfloat16).astype(float) for a in (x, kernel, dy)), **options(name))[2]
    np.testing.assert_allclose(np.asarray(low, float), rounded, rtol=2**-8, atol=1e-5)  # one rounding, at the end


@pytest.mark.parametrize("name", ATROUS)
def test_atrous_kernel_gradients_are_no_dilated_convolution_on_nvidia_gpus(name):
    """Without dilation, cuDNN has a way of its own for the gradient."""
    x, kernel, dy = arrays(name)
    lowered = {}
    for platform in ("cuda", "rocm", "cpu"):
        function = jax.jit(partial(value_and_gradients, **options(name)))
        lowered[platform] = function.trace(x, kernel, dy).lower(lowering_platforms=(platform,)).as_text()
    assert (
        len(re.findall(r"stablehlo.convolution.*rhs_dilate = \[[2-9]", lowered["cuda"])) == 2
    )  # of the value and of the gradient of x
    assert lowered["cuda"].count("stablehlo.convolution") == 2 + (name == "dense dilated")  # and of its phases
    assert lowered["rocm"].count("stablehlo.convolution") == 3
    assert lowered["cpu"].count("stablehlo.convolution") == (3 if name.startswith("dense") else 0)


def test_wrong_shapes_raise():
    x = jnp.zeros((1, 5, 5, 4))
    with pytest.raises(UserError, match="expects 3 channels"):
        conv2d(x, jnp.zeros((3, 3, 3, 8)))
    with pytest.raises(UserError, match="multiple of 4"):
        conv2d(x, jnp.zeros((3, 3, 1, 6)), groups=4)
    with pytest.raises(UserError, match="does not fit an image of"):
        conv2d(x, jnp.zeros((3, 3, 4, 8)), dilation=3)
    with pytest.raises(UserError, match="conv2d expects"):
        conv2d(x[0], jnp.zeros((3, 3, 4, 8)))


@pytest.mark.parametrize("rows", [1, 3, 5])
@pytest.mark.parametrize("name", ["depthwise 5x5 strided", "depthwise dilated", "depthwise multiplier"])
def test_kernel_gradient_takes_any_number_of_rows_a_turn(name, rows, monkeypatch):
    x, kernel, dy = arrays(name)
    monkeypatch.setattr(depthwise, "ROWS", rows)
    stride, padding, dilation, _ = options(name).values()
    got = depthwise.kernel_gradient(jnp.asarray(x), jnp.asarray(dy), kernel.shape, Window(stride, padding, dilation))
    np.testing.assert_allclose(got, direct(x, kernel, dy, **options(name))[2], rtol=1e-5, atol=1e-4)
