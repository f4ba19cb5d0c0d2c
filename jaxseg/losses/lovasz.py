"""Lovász losses: convex extensions of the Jaccard index (intersection over union)."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import check_logits_and_labels
from jaxseg.losses.pixels import BinaryLabels, binary_targets, check_binary, counted_logits, one_hot


def lovasz_softmax(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    per_image: bool = False,
    present: bool = True,
) -> Float[Array, ""]:
    """Lovász-Softmax, the convex extension of 1 - IoU (Berman et al., 2018, arXiv:1705.08790), class mean.

    A pixel's error is 1 - p for the class of its label and p for any other class, where p is the softmax of the logits.
    If every error is 0 or 1, the loss is exactly 1 - IoU. The pixels of each class are sorted by error, so with
    `per_image=False` the pixels of a sharded batch are gathered.

    The slope along each sorted error is computed in closed form out of integer counts, not, as in the paper's
    algorithm 1, as a difference of neighboring IoUs: with a million pixels these agree in all but the last digit.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). Without any, loss and gradient are 0.
      per_image: True takes the mean over the losses of the images; an image without valid pixels contributes 0.
        False treats the batch as one image, which is nearer to the IoU of a data set.
      present: the mean is over the classes in the labels. False means all classes: an absent one costs its largest p.

    >>> logits = jnp.array([[[[9.0, -9.0], [-9.0, 9.0], [-9.0, 9.0]]]])
    >>> print(f"{lovasz_softmax(logits, jnp.array([[[0, 1, 1]]])):.4f}")
    0.0000
    >>> print(f"{lovasz_softmax(logits, jnp.array([[[0, 0, 1]]])):.4f}")  # both IoUs are 1/2
    0.5000
    """
    check_logits_and_labels(logits, labels, where)
    probabilities = jax.nn.softmax(counted_logits(logits, where))
    target = one_hot(labels, logits.shape[-1])
    others = jnp.where(target, 0.0, probabilities).sum(-1, keepdims=True)  # 1 - p of the label's class
    return _lovasz(jnp.where(target, others, probabilities), target, where, per_image, present)


def lovasz_hinge(
    logits: Float[ArrayLike, "b h w c"],
    labels: BinaryLabels,
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    per_image: bool = False,
    present: bool = False,
) -> Float[Array, ""]:
    """Lovász hinge, 1 - IoU extended over hinge errors (Berman et al., 2018, arXiv:1705.08790).

    A pixel's error is max(0, 1 - logit·sign), sign 1 in the foreground and -1 elsewhere: unlike the softmax form it is
    unbounded, and pixels that are right by a margin of 1 or more have no gradient. Each class is a binary problem.

    Args:
      logits: scores, positive where the class is, any float dtype; the loss is computed in float32.
      labels: class ids, each class against all others (of a single class: 1 is the foreground, 0 is not), or a 0 or 1
        for every class of every pixel; never read where `where` is False.
      where: valid pixels (None means all). Without any, loss and gradient are 0.
      per_image: True takes the mean over the losses of the images; an image without valid pixels contributes 0.
      present: the mean is over the classes in the labels. False means all classes: where there is no foreground, the
        loss is the largest error.

    >>> logits = jnp.array([[[[3.0], [-2.0], [0.5]]]])
    >>> print(f"{lovasz_hinge(logits, jnp.array([[[1, 0, 0]]])):.4f}")  # the third's 1.5, which halves the IoU
    0.7500
    """
    check_binary(logits, labels, where)
    logits = counted_logits(logits, where)
    target = binary_targets(labels, logits.shape[-1])
    errors = jax.nn.relu(1 - jnp.where(target, logits, -logits))
    return _lovasz(errors, target, where, per_image, present)


def _lovasz(errors, target, where, per_image, present):
    if where is None:
        where = jnp.ones(target.shape[:-1], bool)
    where = jnp.broadcast_to(where[..., None], target.shape)
    errors, target, where = (_rows(x, per_image) for x in (errors, target & where, where))
    slopes = lax.stop_gradient(jaccard_slopes(lax.stop_gradient(errors), target, where))
    losses = (errors * slopes).sum(-1)  # the slopes are constant between ties: this has the loss's gradient
    counted = target.any(-1) if present else jnp.ones(losses.shape, bool)
    per_row = jnp.where(counted, losses, 0.0).sum(-1) / jnp.maximum(counted.sum(-1), 1).astype(jnp.float32)
    return per_row.mean()


def _rows(x: Array, per_image: bool) -> Array:
    """[b, h, w, c] to [b, c, pixels] or, of the batch as one image, [1, c, pixels]."""
    classes = x.shape[-1]
    return jnp.moveaxis(x, -1, 1).reshape(len(x), classes, -1) if per_image else x.reshape(1, -1, classes).mT


def jaccard_slopes(
    errors: Float[ArrayLike, "... n"], target: Bool[ArrayLike, "... n"], where: Bool[ArrayLike, "... n"]
) -> Float[Array, "... n"]:
    """Returns the weight of each pixel's error: how much 1 - IoU grows when this pixel becomes wrong too.

    The pixels become wrong one by one, the worst first (Berman et al., 2018, arXiv:1705.08790, algorithm 1). With k of
    them wrong, of which B are background, and P pixels of foreground, the union is P + B and the intersection P less
    the foreground among the k. A pixel of foreground adds 1 / union, one of background intersection / (union·(union -
    1)); counts are integers, so that no digits are lost. Where there is no foreground the worst pixel has 1.

    Args:
      errors: at least 0; equal ones in order of place.
      target: the foreground.
      where: valid pixels; the others get 0. At most 2^30 in all.

    >>> errors, target = jnp.array([0.9, 0.2, 0.1]), jnp.array([False, True, False])
    >>> jaccard_slopes(errors, target, jnp.ones(3, bool)).tolist()
    [0.5, 0.5, 0.0]
    """
    target = target & where
    place = 2 * lax.broadcasted_iota(jnp.int32, errors.shape, errors.ndim - 1) + target.astype(jnp.int32)
    # Two sorts, there and back, instead of a gather and, for the gradient, a scatter.
    _, place = lax.sort((jnp.where(where, -errors, 1.0), place), num_keys=1)  # invalid pixels come last
    hit = place & 1
    hits = lax.cumsum(hit, axis=hit.ndim - 1)
    misses = 1 + lax.broadcasted_iota(jnp.int32, hit.shape, hit.ndim - 1) - hits
    foreground = hits[..., -1:]
    union = (foreground + misses).astype(jnp.float32)
    left = (foreground - hits).astype(jnp.float32)
    background_slope = jnp.where(union == 1, 1.0, left / (union * jnp.maximum(union - 1, 1.0)))
    slopes = jnp.where(hit == 1, 1 / jnp.maximum(union, 1.0), background_slope)
    _, slopes = lax.sort((place >> 1, slopes), num_keys=1)
    return jnp.where(where, slopes, 0.0)
