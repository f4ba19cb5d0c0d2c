"""Distillation: training on the scores of another network.

These two losses take no labels. Call them from Python, in addition to a loss of `LOSSES`; configs can't name them.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from jaxseg.checks import UserError
from jaxseg.losses.pixels import counted_logits, ratio_where


def distillation(
    logits: Float[ArrayLike, "b h w c"],
    teacher_logits: Float[ArrayLike, "b h w c"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    temperature: float = 1.0,
) -> Float[Array, ""]:
    """T²·KL(teacher ‖ student) of the softmaxes over classes at temperature T, mean over the valid pixels.

    Hinton et al., 2015, arXiv:1503.02531. The paper's cross entropy also includes the teacher's entropy; without it, a
    student that equals its teacher costs 0. T² makes the gradient's size independent of T. No gradient flows to the
    teacher.

    Args:
      logits: the student's unnormalized scores, of at least two classes, any float dtype; the loss is computed in
        float32.
      teacher_logits: the teacher's, of the same shape.
      where: valid pixels (None means all). Without any, loss and gradient are 0. Pixels
        with the ignore label may be valid here: the teacher has scores for them too.
      temperature: T above, > 0; larger values give more weight to the classes that the teacher ranks lower.

    >>> teacher = jnp.log(jnp.array([[[[0.5, 0.5]]]]))
    >>> print(f"{distillation(jnp.log(jnp.array([[[[0.8, 0.2]]]])), teacher):.4f}")  # ½ log(0.5/0.8) + ½ log(0.5/0.2)
    0.2231
    """
    logits, teacher_logits = _prepare(logits, teacher_logits, where, temperature)
    if logits.shape[-1] < 2:
        raise UserError(
            f"Logits {logits.shape} are of one class, whose softmax is 1 everywhere: there is nothing to learn. Use"
            " channel_wise_distillation, or logits of two classes."
        )
    log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(teacher_logits)
    divergence = temperature**2 * (jnp.exp(log_q) * (log_q - log_p)).sum(-1)
    return ratio_where(divergence, jnp.ones_like(divergence), where)


def channel_wise_distillation(
    logits: Float[ArrayLike, "b h w c"],
    teacher_logits: Float[ArrayLike, "b h w c"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    temperature: float = 4.0,
) -> Float[Array, ""]:
    """T²·KL(teacher ‖ student) of each channel's softmax over the pixels, mean over channels and images.

    Shu et al., 2021, arXiv:2011.13256. It compares where in the image each class is, not which class each pixel has, so
    it works for features as well as for logits. No gradient flows to the teacher.

    Args:
      logits: of the student, or its features; any float dtype; the loss is computed in float32.
      teacher_logits: of the teacher, of the same shape.
      where: valid pixels (None means all). An image without any contributes 0.
      temperature: T above, > 0.

    >>> teacher = jnp.log(jnp.array([0.5, 0.5])).reshape(1, 1, 2, 1)
    >>> student = jnp.log(jnp.array([0.8, 0.2])).reshape(1, 1, 2, 1)
    >>> print(f"{channel_wise_distillation(student, teacher, temperature=1.0):.4f}")
    0.2231
    """
    logits, teacher_logits = _prepare(logits, teacher_logits, where, temperature)
    counts = jnp.ones(logits.shape[:-1], bool) if where is None else where
    log_p, log_q = (_log_softmax_over_pixels(x, counts[..., None]) for x in (logits, teacher_logits))
    divergence = jnp.where(counts[..., None], jnp.exp(log_q) * (log_q - log_p), 0.0)
    return temperature**2 * divergence.sum((1, 2)).mean()


def _prepare(logits, teacher_logits, where, temperature):
    """Checks the arguments; returns both scores over the temperature, in float32, 0 at invalid pixels."""
    for name, x in (("Logits", logits), ("Teacher's logits", teacher_logits)):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise UserError(f"{name} must be floating point, got {x.dtype}. Pass the scores before argmax.")
    if logits.shape != teacher_logits.shape:
        raise UserError(
            f"The student's logits {logits.shape} and the teacher's {teacher_logits.shape} must have one shape."
            " Resize the teacher's, or build both models with the same classes."
        )
    if where is not None and where.shape != logits.shape[:-1]:
        raise UserError(f"`where` has shape {where.shape}, expected one per pixel, {logits.shape[:-1]}.")
    if not temperature > 0:
        raise UserError(f"`temperature` must be positive, got {temperature}. 1.0 leaves the scores as they are.")
    teacher_logits = lax.stop_gradient(teacher_logits)
    return counted_logits(logits, where) / temperature, counted_logits(teacher_logits, where) / temperature


def _log_softmax_over_pixels(
    x: Float[ArrayLike, "b h w c"], counts: Bool[ArrayLike, "b h w 1"]
) -> Float[Array, "b h w c"]:
    highest = jnp.where(counts, x, -jnp.inf).max((1, 2), keepdims=True)
    shifted = x - lax.stop_gradient(jnp.where(jnp.isfinite(highest), highest, 0.0))
    total = jnp.where(counts, jnp.exp(jnp.where(counts, shifted, 0.0)), 0.0).sum((1, 2), keepdims=True)
    return shifted - jnp.log(jnp.where(total > 0, total, 1.0))
