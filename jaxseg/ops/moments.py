"""Mean and variance in one pass over the pixels, exact for means far from zero."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

Moments = tuple[Float[ArrayLike, "..."], Float[ArrayLike, "..."]]

# E[x²] - E[x]² loses as many digits as the squared mean has more than the variance. Up to this ratio, six remain.
FAR = 100.0


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def moments(x: Float[ArrayLike, "b h w *c"], axes: tuple[int, ...]) -> Moments:
    """Returns the mean and the (biased) variance of `x` over `axes`, which stay with length 1; both are float32.

    The variance is E[(x - s)²] - E[x - s]², where s is the mean of some rows and columns: a variance does not depend on
    what is taken away from all values, and so near to the mean hardly a digit is lost. XLA's CPU compiler would write
    x - s to memory for this. There, s is 0 unless some mean turns out to be far from zero, which `jax.lax.cond` costs
    nothing to ask; on a GPU it would wait for the answer. There, bfloat16 numbers do without s: before the squares lose
    what matters, the mean is so many deviations away that bfloat16, of eight bits, no longer holds the deviations.

    >>> mean, variance = moments(1000.0 + jnp.array([-0.25, 0.25]).reshape(1, 1, 2, 1), (0, 1, 2))
    >>> mean.item(), variance.item()
    (1000.0, 0.0625)
    """
    return _by_platform(x, axes)


@partial(jax.jit, static_argnames="axes")  # traced once for all maps of one shape
def _by_platform(x: Array, axes: tuple[int, ...]) -> Moments:
    other = _about if x.dtype == jnp.bfloat16 else _shifted
    x = x.astype(jnp.float32)
    return lax.platform_dependent(x, cpu=partial(_on_cpu, axes=axes), default=partial(other, axes=axes))


@moments.defjvp
def _differentiate(
    axes: tuple[int, ...], primals: tuple[ArrayLike], tangents: tuple[ArrayLike]
) -> tuple[Moments, Moments]:
    (x,), (dx,) = primals, tangents
    mean, variance = moments(x, axes)
    x, dx = x.astype(jnp.float32), dx.astype(jnp.float32)
    return (mean, variance), (dx.mean(axes, keepdims=True), 2 * ((x - mean) * dx).mean(axes, keepdims=True))


def _on_cpu(x: Array, axes: tuple[int, ...]) -> Moments:
    mean, variance = _about(x, axes)
    far = jnp.any(jnp.square(mean) > FAR * variance)
    return lax.cond(far, lambda: _around(x, mean, axes), lambda: (mean, variance))


def _shifted(x: Array, axes: tuple[int, ...]) -> Moments:
    """The moments in one pass, about the mean of up to 15 rows and columns."""
    down, right = (max(n // 8, 1) for n in x.shape[1:3])
    return _around(x, x[:, down // 2 :: down, right // 2 :: right].mean(axes, keepdims=True), axes)


def _around(x: Array, shift: Array, axes: tuple[int, ...]) -> Moments:
    mean, variance = _about(x - shift, axes)
    return shift + mean, variance


def _about(x: Array, axes: tuple[int, ...]) -> Moments:
    mean = x.mean(axes, keepdims=True)
    variance = jnp.square(x).mean(axes, keepdims=True) - jnp.square(mean)
    return mean, jnp.maximum(variance, 0.0)
