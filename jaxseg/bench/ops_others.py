"""What networks do besides convolutions, each in several ways; see `jaxseg.bench.ways`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array

from jaxseg.bench.ways import Comparison, Scale, normal
from jaxseg.losses import cross_entropy
from jaxseg.metrics.confusion import confusion_matrix
from jaxseg.ops.attention import dot_product_attention
from jaxseg.ops.conv import conv2d
from jaxseg.ops.max_pool import max_pool
from jaxseg.ops.resize import resize


def enlargement(scale: Scale) -> list[Comparison]:
    """The last enlargement of SegFormer, FPN and DeepLab: scores at a quarter of the image's size."""
    return [
        _enlargement(scale, classes, dtype)
        for classes in (21, 150)
        for dtype in dict.fromkeys((jnp.float32, scale.dtype))
    ]


def _enlargement(scale: Scale, classes: int, dtype: Any) -> Comparison:
    n, big = scale.side(128), 4 * scale.side(128)
    batch = _fewer(scale, classes)
    size = (big, big)

    def xla(x: Array) -> Array:
        return jax.image.resize(x, (*x.shape[:1], *size, x.shape[3]), "bilinear", antialias=False)

    def torchs(x: Any) -> Any:
        import torch

        return torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)

    ways = {"jaxseg": lambda x: resize(x, size), "XLA (jax.image)": xla}
    title = f"enlargement, {batch} x {n}² x {classes} -> {big}², {jnp.dtype(dtype).name}"
    return Comparison(title, ways, lambda: (normal((batch, n, n, classes), dtype),), (0,), torchs, ("image",))


def _fewer(scale: Scale, classes: int) -> int:
    """Images: fewer of those with many classes, as other processes need memory, too."""
    return scale.batch if classes < 100 else max(scale.batch // 4, 1)


def attention(scale: Scale) -> list[Comparison]:
    """The attention of MiT's first and third stage."""
    sizes = ((1, 128 * 128, 64), (5, 32 * 32, 320))
    return [_attention(scale, heads, max(queries // scale.shrink, 64), c) for heads, queries, c in sizes]


def _attention(scale: Scale, heads: int, queries: int, c: int) -> Comparison:
    keys = 256 // scale.shrink

    def split(x: Array) -> Array:
        return x.reshape(*x.shape[:2], heads, -1)

    def library(implementation: str, q: Array, k: Array, v: Array) -> Array:
        found = jax.nn.dot_product_attention(split(q), split(k), split(v), implementation=implementation)  # type: ignore[arg-type]
        return found.reshape(q.shape)

    def torchs(q: Any, k: Any, v: Any) -> Any:
        import torch

        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def arguments() -> tuple[Array, ...]:
        return tuple(normal((scale.batch, n, c), scale.dtype, seed) for seed, n in enumerate((queries, keys, keys)))

    ways = {
        "jaxseg": partial(dot_product_attention, heads=heads),
        "XLA (jax.nn)": partial(library, "xla"),
        "cuDNN (jax.nn)": partial(library, "cudnn"),
    }
    title = f"attention, {scale.batch} x {queries} queries, {keys} keys, {c} channels, {heads} heads"
    return Comparison(title, ways, arguments, (0, 1, 2), torchs, ("plain",) * 3)


def folded(scale: Scale) -> list[Comparison]:
    """A residual block in inference: normalization after the convolution, or folded into its kernel."""
    return [_folded(scale, side, c) for side, c in ((128, 64), (32, 512 // scale.shrink))]


def _folded(scale: Scale, side: int, c: int) -> Comparison:
    n, dtype = scale.side(side), scale.dtype

    def after(x: Array, k1: Array, k2: Array, factor: Array, offset: Array) -> Array:
        def norm(y: Array) -> Array:
            return (y.astype(jnp.float32) * factor + offset).astype(dtype)

        y = jax.nn.relu(norm(conv2d(x, k1.astype(dtype), padding=1)))
        return jax.nn.relu(x + norm(conv2d(y, k2.astype(dtype), padding=1)))

    def before(x: Array, k1: Array, k2: Array, factor: Array, offset: Array) -> Array:
        bias = offset.astype(dtype)
        y = jax.nn.relu(conv2d(x, (k1 * factor).astype(dtype), padding=1) + bias)
        return jax.nn.relu(x + (conv2d(y, (k2 * factor).astype(dtype), padding=1) + bias))

    def arguments() -> tuple[Array, ...]:
        kernels = [normal((3, 3, c, c), jnp.float32, seed) / (3 * c**0.5) for seed in (1, 2)]
        vectors = [normal((1, 1, 1, c), jnp.float32, seed) for seed in (3, 4)]
        return normal((scale.batch, n, n, c), dtype), *kernels, *vectors

    ways = {"norm after": after, "norm folded": before}
    return Comparison(f"residual block in inference, {scale.batch} x {n}² x {c}", ways, arguments, ())


def gelu(scale: Scale) -> list[Comparison]:
    """GELU of a ConvNeXt block."""
    n = scale.side(128)

    def torchs(x: Any) -> Any:
        import torch

        return torch.nn.functional.gelu(x)

    ways = {
        "XLA (jax.nn.gelu)": partial(jax.nn.gelu, approximate=False),
        "checkpointed": jax.checkpoint(partial(jax.nn.gelu, approximate=False)),
        "tanh": partial(jax.nn.gelu, approximate=True),
    }
    shape = (scale.batch, n, n, 384)
    return [
        Comparison(
            f"GELU, {scale.batch} x {n}² x 384", ways, lambda: (normal(shape, scale.dtype),), (0,), torchs, ("image",)
        )
    ]


def pooling(scale: Scale) -> list[Comparison]:
    """ResNet's max pooling."""
    n = scale.side(256)

    def torchs(x: Any) -> Any:
        import torch

        return torch.nn.functional.max_pool2d(x, 3, 2, 1)

    ways = {
        "jaxseg": lambda x: max_pool(x, 3),
        "XLA (reduce_window)": lambda x: nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))),
    }
    shape = (scale.batch, n, n, 64)
    title = f"max pooling 3 x 3, stride 2, {scale.batch} x {n}² x 64"
    return [Comparison(title, ways, lambda: (normal(shape, scale.dtype),), (0,), torchs, ("image",))]


def counting(scale: Scale) -> list[Comparison]:
    """The confusion matrix of a batch, of Cityscapes' size and of ADE20K's classes."""
    sizes = (
        (max(scale.batch // 2, 1), (scale.side(1024), scale.side(2048)), 19),
        (scale.batch, (scale.side(512),) * 2, 150),
    )
    return [_counting(*given) for given in sizes]


def _counting(batch: int, size: tuple[int, int], classes: int) -> Comparison:
    def scatter(predictions: Array, labels: Array) -> Array:
        entry = (labels * classes + predictions).ravel()
        return jnp.zeros(classes * classes, jnp.int32).at[entry].add(1).reshape(classes, classes)

    def one_hot(predictions: Array, labels: Array) -> Array:
        """A product of one-hot rows, image by image, exact to 2^24 pixels an image."""

        def image(pair: tuple[Array, Array]) -> Array:
            p, y = (jax.nn.one_hot(x.ravel(), classes, dtype=jnp.bfloat16) for x in pair)
            return lax.dot_general(y, p, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32).astype(jnp.int32)

        return lax.map(image, (predictions, labels)).sum(0)

    def torchs(predictions: Any, labels: Any) -> Any:
        import torch

        return torch.bincount((labels * classes + predictions).flatten(), minlength=classes**2).view(classes, classes)

    def arguments() -> tuple[Array, ...]:
        return tuple(jax.random.randint(jax.random.key(seed), (batch, *size), 0, classes) for seed in (0, 1))

    ways = {"jaxseg": partial(confusion_matrix, num_classes=classes), "XLA (one scatter)": scatter, "products": one_hot}
    title = f"confusion matrix, {batch} x {size[0]} x {size[1]}, {classes} classes"
    return Comparison(title, ways, arguments, (), torchs, ("plain", "plain"))


def entropy(scale: Scale) -> list[Comparison]:
    """Cross entropy and its gradient at the image's size, a tenth of the pixels ignored."""
    return [_entropy(scale, classes) for classes in (21, 150)]


def _entropy(scale: Scale, classes: int) -> Comparison:
    batch, n = _fewer(scale, classes), scale.side(512)

    def library(logits: Array, labels: Array, where: Array) -> Array:
        each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.where(where, each, 0).sum() / where.sum().astype(jnp.float32)

    def torchs(logits: Any, labels: Any, where: Any) -> Any:
        import torch

        return torch.nn.functional.cross_entropy(logits, labels.long().masked_fill(~where, -1), ignore_index=-1)

    def arguments() -> tuple[Array, ...]:
        labels = jax.random.randint(jax.random.key(1), (batch, n, n), 0, classes)
        where = jax.random.uniform(jax.random.key(2), labels.shape) < 0.9
        return normal((batch, n, n, classes), jnp.float32), labels, where

    ways = {"jaxseg": lambda x, y, w: cross_entropy(x, y, where=w), "XLA (optax)": library}
    title = f"cross entropy, {batch} x {n}², {classes} classes, float32"
    return Comparison(title, ways, arguments, (0,), torchs, ("image", "plain", "plain"))


OTHERS: dict[str, Callable[[Scale], list[Comparison]]] = {
    "attention": attention,
    "enlargement": enlargement,
    "entropy": entropy,
    "confusion": counting,
    "folded": folded,
    "gelu": gelu,
    "max_pool": pooling,
}
