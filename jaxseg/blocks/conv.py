"""Convolution, normalization and activation: the layers that every network here is built from.

BatchNorm's momentum and eps are PyTorch's (0.1, which is 0.9 here, and 1e-5), since most published weights were
trained with them; networks that need other values pass them. Padding is explicit and symmetric.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from jaxseg.blocks.initializers import he_normal
from jaxseg.checks import UserError
from jaxseg.ops.conv import conv2d
from jaxseg.ops.moments import moments

# What a layer takes and gives. The sizes have no names, as names that are alike would say that sizes are: a layer that
# changes none of them says so by an annotation of its own.
Feature = Float[Array | np.ndarray, "_b _h _w _c"]  # the wirings take NumPy's arrays, too
Activation = Callable[[Feature], Feature]


_PARTS: contextvars.ContextVar[int] = contextvars.ContextVar("parts", default=1)


@contextlib.contextmanager
def batch_norm_parts(parts: int) -> Iterator[None]:
    """In this context, while a model is traced, batch normalization has statistics of each of `parts` of the batch.

    With as many parts as the batch is split over devices, none waits for the others' statistics.
    """
    token = _PARTS.set(parts)
    try:
        yield
    finally:
        _PARTS.reset(token)


_FOLDS: contextvars.ContextVar[bool] = contextvars.ContextVar("folds", default=True)


@contextlib.contextmanager
def unfolded() -> Iterator[None]:
    """In this context, while a model is traced, every batch normalization is called, in evaluation too.

    For what looks at the modules one by one; see `conv_norm`.
    """
    token = _FOLDS.set(False)
    try:
        yield
    finally:
        _FOLDS.reset(token)


def conv_norm(conv: nn.Module, norm: nn.Module | None, x: Feature, *, train: bool) -> Feature:
    """Returns norm(conv(x)); batch normalization is folded into the convolution where `train` is False.

    In evaluation it is a product and a sum a channel with known numbers, and the kernel can be multiplied instead of
    the features (Jacob et al., 2018, arXiv:1712.05877, section 3.2). A GPU then adds the rest, and applies the
    activation, while it writes the convolution's result, and need not read and write all features once more. A CPU
    multiplies the features: that is one pass with what follows in any case, and kernels are large. Only rounding
    differs, and the derivatives are the same.

    Args:
      conv: a `Conv` or a `ConvTranspose`.
      norm: any normalization; None is none.
      x: the convolution's features.
      train: whether to normalize by the batch.
    """
    if norm is None:
        return conv(x)
    if not isinstance(norm, BatchNorm) or not norm.folds(train=train):
        return norm(conv(x), train=train)
    factor, offset = norm.affine()
    inside = jax.lax.platform_dependent(factor, cpu=jnp.ones_like, default=lambda factor: factor)  # XLA drops ones
    return jax.lax.platform_dependent(
        *(conv(x, inside), factor, offset),
        cpu=lambda y, factor, offset: scale_and_shift(y, factor, offset, norm.dtype),
        default=lambda y, _, offset: y.astype(norm.dtype) + offset.astype(norm.dtype)[None, None, None],
    )


def scale_and_shift(x: Feature, factor: Float[Array, " c"], offset: Float[Array, " c"], dtype: Any) -> Feature:
    """Returns x * factor + offset, computed in float32 and rounded to `dtype` once."""
    return (x.astype(jnp.float32) * factor[None, None, None] + offset[None, None, None]).astype(dtype)


class Conv(nn.Module):
    """A 2-D convolution whose default padding keeps the size at stride 1 and is symmetric at any stride."""

    features: int
    kernel_size: int | tuple[int, int] = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: int | tuple[tuple[int, int], tuple[int, int]] | None = None  # None: dilation * (kernel_size - 1) / 2
    use_bias: bool = False
    dtype: Any = jnp.float32
    kernel_init: Any = he_normal
    bias_init: Any = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Feature, factor: Float[Array, " c"] | None = None) -> Feature:
        size = (self.kernel_size,) * 2 if isinstance(self.kernel_size, int) else self.kernel_size
        padding = self.padding
        if padding is None:
            padding = tuple((self.dilation * (k - 1) // 2,) * 2 for k in size)
        shape = (*size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32) if self.use_bias else None
        if factor is not None:  # of each channel of the result
            kernel, bias = kernel * factor[None, None, None], None if bias is None else bias * factor
        y = conv2d(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            padding=padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return y if bias is None else y + bias.astype(self.dtype)[None, None, None]


class BatchNorm(nn.Module):
    """Batch normalization (Ioffe & Szegedy, 2015, arXiv:1502.03167) with PyTorch's running statistics.

    Statistics are float32 over the whole (global) batch; the running variance is the unbiased one, as in PyTorch, so
    that training here and in PyTorch gives the same statistics. In training, a map of one value per channel (one
    image of one pixel) is an error, as in PyTorch: its variance is 0, and the result is the same whatever it shows.
    """

    momentum: float = 0.9  # of the running statistics: new = momentum * old + (1 - momentum) * batch
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        parts = _PARTS.get()
        if train and parts > 1 and not self.is_initializing():
            return self._by_parts(x, parts, scale, bias, running_mean, running_var)
        if train:
            mean, var = (m.reshape(shape) for m in moments(x, (0, 1, 2)))
            if not self.is_initializing():
                unbiased = var * self._correction(x)
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * unbiased
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return scale_and_shift(x, factor, bias - mean * factor, self.dtype)

    def folds(self, *, train: bool) -> bool:
        """Returns whether what it does now can be left to the convolution before it: in evaluation, with parameters."""
        return not train and _FOLDS.get() and self.has_variable("batch_stats", "mean")

    def affine(self) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """Returns (factor, offset), float32: in evaluation it is x * factor + offset."""
        scale, bias = (self.get_variable("params", name) for name in ("scale", "bias"))
        mean, var = (self.get_variable("batch_stats", name) for name in ("mean", "var"))
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return factor, bias - mean * factor

    def _by_parts(
        self, x: Feature, parts: int, scale: Array, bias: Array, running_mean: nn.Variable, running_var: nn.Variable
    ) -> Feature:
        """Normalizes each of the parts of a batch by itself; the running statistics get the mean of theirs."""
        if x.shape[0] % parts:
            raise UserError(f"A batch of {x.shape[0]} images has no {parts} equal parts. Use a multiple of {parts}.")
        split = x.astype(jnp.float32).reshape(parts, -1, *x.shape[1:])
        mean, var = jax.vmap(lambda part: moments(part, (0, 1, 2)))(split)  # [parts, 1, 1, 1, channels]
        keep, unbiased = self.momentum, var * self._correction(x, parts)
        running_mean.value = keep * running_mean.value + (1 - keep) * mean.mean((0, 1, 2, 3))
        running_var.value = keep * running_var.value + (1 - keep) * unbiased.mean((0, 1, 2, 3))
        scale, bias = (jnp.broadcast_to(values, var.shape) for values in (scale, bias))
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return (split * factor + (bias - mean * factor)).reshape(x.shape).astype(self.dtype)

    def _correction(self, x: Feature, parts: int = 1) -> float:
        """Returns n / (n - 1), which makes the variance of n values, those of a part, an unbiased one."""
        count = x.size // x.shape[-1] // parts
        if count == 1:
            raise UserError(
                f"BatchNorm {'/'.join(self.path)} sees one value per channel, of a map {x.shape}: in training its"
                " variance is 0, and the network learns nothing there. Use a larger batch, or larger images."
            )
        return count / (count - 1)


class GroupNorm(nn.Module):
    """Group normalization (Wu & He, 2018, arXiv:1803.08494): statistics per image and group of channels.

    Called as `BatchNorm` is; `train` makes no difference to it. Statistics are float32.
    """

    groups: int = 32
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        batch, height, width, channels = x.shape
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        if channels % self.groups:
            raise UserError(
                f"Group normalization in {self.groups} groups needs channels that are a multiple of {self.groups}, got"
                f" {channels}. Choose another number of features."
            )
        by_group = x.astype(jnp.float32).reshape(batch, height, width, self.groups, -1)
        mean, var = (
            jnp.broadcast_to(m, (*m.shape[:4], by_group.shape[4])).reshape(batch, 1, 1, channels)
            for m in moments(by_group, (1, 2, 4))
        )
        scale, bias = scale[None, None, None], bias[None, None, None]
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return (x.astype(jnp.float32) * factor + (bias - mean * factor)).astype(self.dtype)


class ConvNormAct(nn.Module):
    """Convolution without bias, normalization, activation; None for either of the last two means the identity."""

    features: int
    kernel_size: int | tuple[int, int] = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: int | tuple[tuple[int, int], tuple[int, int]] | None = None
    activation: Activation | None = nn.relu
    use_bias: bool = False
    norm: Any = BatchNorm
    dtype: Any = jnp.float32
    kernel_init: Any = he_normal

    @nn.compact
    def __call__(self, x: Feature, *, train: bool) -> Feature:
        conv = Conv(
            self.features,
            self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
            padding=self.padding,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            name="conv",
        )
        norm = None if self.norm is None else self.norm(dtype=self.dtype, name="norm")
        x = conv_norm(conv, norm, x, train=train)
        return x if self.activation is None else self.activation(x)
