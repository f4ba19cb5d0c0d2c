"""Convolutions, each in several ways, at sizes that networks have; see `jaxseg.bench.ways`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxseg.bench.ways import Comparison, Scale, normal
from jaxseg.ops.conv import conv2d
from jaxseg.ops.cpu import depthwise
from jaxseg.ops.cpu.window import Window
from jaxseg.ops.transposed import conv_transpose2d

AXES = ("image", "kernel")


def _xla(x: Array, k: Array, *, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1) -> Array:
    """XLA's own convolution, with XLA's own gradients."""
    pads = ((padding, padding),) * 2
    names = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x,
        k,
        (stride,) * 2,
        pads,
        rhs_dilation=(dilation,) * 2,
        dimension_numbers=names,
        feature_group_count=groups,
    )


def _torch(x: Any, k: Any, **options: int) -> Any:
    import torch

    return torch.nn.functional.conv2d(x, k, **options)


def _convolution(
    scale: Scale, what: str, side: int, channels: tuple[int, int], size: int, **options: int
) -> Comparison:
    """A convolution forward and backward: jaxseg's, XLA's and torch's."""
    (i, o), n = channels, scale.side(side)
    groups = options.get("groups", 1)

    def arguments() -> tuple[Array, ...]:
        kernel = normal((size, size, i // groups, o), scale.dtype, seed=1)
        return normal((scale.batch, n, n, i), scale.dtype), kernel

    ways = {"jaxseg": partial(conv2d, **options), "XLA": partial(_xla, **options)}
    title = f"{what}, {scale.batch} x {n}², {i} -> {o}, {size} x {size}"
    title += "".join(
        f", {name} {value}" for name, value in options.items() if name != "padding" and value not in (1, i)
    )
    return Comparison(title, ways, arguments, (0, 1), partial(_torch, **options), AXES)


def dense(scale: Scale) -> list[Comparison]:
    """3 x 3 convolutions of encoders and decoders."""
    sizes = ((256, 32, 16), (128, 128, 32), (128, 64, 64), (32, 256, 256), (16, 512, 512))
    return [_convolution(scale, "3x3", side, (i, o), 3, padding=1) for side, i, o in sizes]


def dense_kernel_gradient(scale: Scale) -> list[Comparison]:
    """The gradient of the kernel alone, which decided the time of a step on a CPU."""
    return [_kernel_gradient(scale, side, i, o) for side, i, o in ((128, 128, 32), (64, 64, 64), (64, 192, 64))]


def _kernel_gradient(scale: Scale, side: int, i: int, o: int, dilation: int = 1) -> Comparison:
    n, shape = scale.side(side), (3, 3, i, o)
    options = {"padding": dilation, "dilation": dilation}

    def gradient(convolve: Callable[..., Array], x: Array, dy: Array) -> Array:
        return jax.linear_transpose(lambda k: convolve(x, k, **options), jax.ShapeDtypeStruct(shape, x.dtype))(dy)[0]

    def torchs(x: Any, dy: Any) -> Any:
        import torch

        found = torch.nn.grad.conv2d_weight(x, (o, i, 3, 3), dy, padding=dilation, dilation=dilation)
        return found.permute(2, 3, 1, 0).permute(0, 3, 1, 2)  # ours, laid out as an image

    def taps(x: Array, dy: Array) -> Array:
        """One product of all shifted copies of the features side by side."""
        padded = jnp.pad(x, ((0, 0), (dilation, dilation), (dilation, dilation), (0, 0)))
        at = range(0, 2 * dilation + 1, dilation)
        copies = [padded[:, row : row + n, column : column + n] for row in at for column in at]
        left = jnp.concatenate(copies, axis=-1).reshape(-1, 9 * i)
        product = jnp.einsum("np,no->po", left, dy.reshape(-1, o), preferred_element_type=jnp.float32)
        return product.reshape(shape).astype(x.dtype)

    def arguments() -> tuple[Array, ...]:
        x, dy = ((scale.batch, n, n, channels) for channels in (i, o))
        return normal(x, scale.dtype), normal(dy, scale.dtype, seed=1)

    ways = {"jaxseg": partial(gradient, conv2d), "XLA": partial(gradient, _xla), "patches, one product": taps}
    title = f"kernel gradient of 3x3, {scale.batch} x {n}², {i} -> {o}" + f", dilation {dilation}" * (dilation > 1)
    return Comparison(title, ways, arguments, (), torchs, ("image", "image"))


def atrous_dense(scale: Scale) -> list[Comparison]:
    """The dilated 3 x 3 convolutions of an encoder at output stride 16, and their kernel's gradient."""
    c = 512 // scale.shrink
    whole = _convolution(scale, "atrous", 32, (c, c), 3, padding=2, dilation=2)
    return [whole, _kernel_gradient(scale, 32, c, c, dilation=2)]


def atrous_depthwise(scale: Scale) -> list[Comparison]:
    """The depthwise convolutions of DeepLabV3+'s ASPP."""
    c = 2048 // scale.shrink**2
    return [
        _convolution(scale, "atrous depthwise", 32, (c, c), 3, padding=rate, dilation=rate, groups=c)
        for rate in (6, 12, 18)
    ]


def depthwise_convs(scale: Scale) -> list[Comparison]:
    """Depthwise convolutions of ConvNeXt and MobileNets; also as shifted products, the way of CPUs."""
    found = []
    for side, c, size, stride in ((128, 96, 7, 1), (128, 256, 3, 1), (256, 96, 3, 2)):
        options = {"padding": size // 2, "stride": stride, "groups": c}
        comparison = _convolution(scale, "depthwise", side, (c, c), size, **options)
        window = Window((stride,) * 2, ((size // 2,) * 2,) * 2, (1, 1))
        ways = {**comparison.ways, "shifted products": partial(_shifts, window=window)}
        found.append(
            Comparison(comparison.title, ways, comparison.arguments, (0, 1), comparison.torch, comparison.axes)
        )
    return found


def _shifts(x: Array, k: Array, *, window: Window) -> Array:
    return depthwise.forward(x, k, window)


def grouped(scale: Scale) -> list[Comparison]:
    """ResNeXt-50's convolutions in 32 groups."""
    return [
        _convolution(scale, "grouped", side, (c, c), 3, padding=1, groups=32) for side, c in ((128, 128), (32, 512))
    ]


def pointwise(scale: Scale) -> list[Comparison]:
    """1 x 1 convolutions."""
    sizes = ((128, 64, 256), (32, 1024, 256), (128, 256, 64))
    return [_convolution(scale, "1x1", side, (i, o), 1) for side, i, o in sizes]


def transposed(scale: Scale) -> list[Comparison]:
    """Transposed convolutions: a U-Net's, and FCN's enlargements by 8 and 16."""
    return [
        _transposed(scale, *sizes)
        for sizes in ((64, 128, 64, 2, 2, 0), (64, 21, 21, 16, 8, 4), (32, 21, 21, 32, 16, 8))
    ]


def _transposed(scale: Scale, side: int, i: int, o: int, size: int, stride: int, padding: int) -> Comparison:
    n = scale.side(side)
    pad = size - 1 - padding

    def xla(x: Array, k: Array) -> Array:
        flipped = jnp.flip(k, (0, 1)).swapaxes(2, 3)
        names = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, flipped, (1, 1), ((pad, pad),) * 2, lhs_dilation=(stride,) * 2, dimension_numbers=names
        )

    def torchs(x: Any, k: Any) -> Any:
        import torch

        return torch.nn.functional.conv_transpose2d(x, k, stride=stride, padding=padding)

    def arguments() -> tuple[Array, ...]:
        return normal((scale.batch, n, n, i), scale.dtype), normal((size, size, o, i), scale.dtype, seed=1)

    ways = {"jaxseg": partial(conv_transpose2d, stride=stride, padding=padding), "XLA": xla}
    title = f"transposed, {scale.batch} x {n}², {i} -> {o}, {size} x {size}, stride {stride}"
    return Comparison(title, ways, arguments, (0, 1), torchs, AXES)


CONVOLUTIONS: dict[str, Callable[[Scale], list[Comparison]]] = {
    "dense": dense,
    "dense_kernel_gradient": dense_kernel_gradient,
    "atrous_dense": atrous_dense,
    "atrous_depthwise": atrous_depthwise,
    "depthwise": depthwise_convs,
    "grouped": grouped,
    "pointwise": pointwise,
    "transposed": transposed,
}
