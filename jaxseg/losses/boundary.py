"""Losses weighted by the distance to a border: boundary loss and Hausdorff loss; maps made on the device."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import UserError, check_logits_and_labels
from jaxseg.losses.pixels import chosen_classes, counted_logits, one_hot, ratio_where
from jaxseg.ops.distance import signed_distance, squared_distance_across


def boundary(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    classes: Sequence[int] | None = None,
) -> Float[Array, ""]:
    """Boundary loss, mean of φ·p over pixels and classes (Kervadec et al., 2019, arXiv:1812.07032, eq. 5).

    φ is `ops.distance.signed_distance` to the border of the class in the label, in pixels, sign and zero as in the
    authors' code; p is the softmax of the logits. The minimum is negative: the mean of φ over the label itself. The
    paper adds it to a region loss and increases its weight during training; alone, it tends to predict nothing where
    objects are small. A class that is absent from an image, or fills it, has no border and contributes 0 there.
    Invalid pixels are on neither side of a border and create none; distances are measured across them.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). Without any, loss and gradient are 0.
      classes: classes in the mean (None means all); the paper's two-class experiments use (1,).

    >>> labels = jnp.array([[[0, 0, 1, 1]]])
    >>> right = 20 * jax.nn.one_hot(labels, 2)
    >>> float(boundary(right, labels, classes=(1,)).round(4)), float(boundary(-right, labels, classes=(1,)).round(4))
    (-0.25, 0.75)
    """
    check_logits_and_labels(logits, labels, where)
    chosen = chosen_classes(classes, logits.shape[-1])
    labels = labels.astype(jnp.int32)
    distances = lax.map(lambda k: signed_distance(labels == k, where=where), jnp.array(chosen))
    probabilities = jax.nn.softmax(counted_logits(logits, where))
    return _mean(distances * _classes_first(probabilities, chosen), where)


def hausdorff(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    alpha: float = 2.0,
    classes: Sequence[int] | None = None,
) -> Float[Array, ""]:
    """Hausdorff loss, mean of (p - t)²·(d_p^α + d_t^α) over pixels and classes.

    Karimi & Salcudean, 2019, arXiv:1904.10030, the form with distance transforms. p is the softmax of the logits, t the
    one-hot label; d_t is a pixel's distance, in pixels, to the nearest pixel on the other side of the class's border in
    the label; d_p is the same for the mask p > 1/2, and no gradient flows through it. An error costs more the farther
    it is from the border. A map without a border has d = 0. Invalid pixels are on neither side; distances are measured
    across them.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). Without any, loss and gradient are 0.
      alpha: exponent of the distances, > 0; 2 in the paper.
      classes: classes in the mean (None means all).

    >>> labels = jnp.array([[[0, 0, 0, 1]]])
    >>> right = 20 * jax.nn.one_hot(labels, 2)
    >>> near, far = (right.at[0, 0, i].multiply(-1) for i in (2, 0))  # one pixel wrong: beside the border, or far
    >>> float(hausdorff(near, labels).round(4)), float(hausdorff(far, labels).round(4))
    (0.5, 2.5)
    """
    check_logits_and_labels(logits, labels, where)
    if not alpha > 0:
        raise UserError(f"`alpha` must be positive, got {alpha}. The paper's is 2.")
    chosen = chosen_classes(classes, logits.shape[-1])
    probabilities = jax.nn.softmax(counted_logits(logits, where))
    target = one_hot(labels, logits.shape[-1])
    predicted = lax.stop_gradient(probabilities) > 0.5

    def of_class(sides: Bool[ArrayLike, "2 b h w"]) -> Float[Array, "b h w"]:
        squared = squared_distance_across(sides, where=where).astype(jnp.float32)
        return (squared if alpha == 2 else squared ** (alpha / 2)).sum(0)

    costs = lax.map(of_class, jnp.stack([_classes_first(x, chosen) for x in (predicted, target)], axis=1))
    errors = jnp.square(jnp.where(target, 1 - probabilities, probabilities))
    return _mean(costs * _classes_first(errors, chosen), where)


def _classes_first(x: Array, classes: list[int]) -> Array:
    """[b, h, w, c] to [k, b, h, w]."""
    return jnp.stack([lax.index_in_dim(x, k, -1, keepdims=False) for k in classes])


def _mean(values: Float[ArrayLike, "k b h w"], where: Bool[ArrayLike, "b h w"] | None) -> Float[Array, ""]:
    """The mean over classes and valid pixels."""
    return ratio_where(values.mean(0), jnp.ones(values.shape[1:]), where)
