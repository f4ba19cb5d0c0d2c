"""clDice: overlap of the center lines of two shapes, for vessels, roads and cracks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import check_logits_and_labels
from jaxseg.losses.pixels import BinaryLabels, binary_targets, check_binary, chosen_classes, counted_logits, one_hot
from jaxseg.losses.regions import check_smooth
from jaxseg.ops.morphology import soft_skeleton


def soft_cldice(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    classes: Sequence[int] | None = None,
    iterations: int = 3,
    smooth: float = 1.0,
    per_image: bool = True,
) -> Float[Array, ""]:
    """Soft clDice, 1 - the harmonic mean of topology precision and sensitivity (Shit et al., 2021, arXiv:2003.07311).

    With S the soft skeleton of the softmax P and of the label T, precision is (Σ S(P)·T + s) / (Σ S(P) + s), the part
    of the predicted center line that lies in the label, and sensitivity is (Σ S(T)·P + s) / (Σ S(T) + s); mean over
    images and classes. A gap costs as much in a thin branch as in a thick one. The loss hardly depends on the exact
    outline, so the paper adds it to Dice.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all); all others are treated as outside the image. An image
        without any contributes 0.
      classes: ids of the classes with a center line. None means all but 0, the background.
      iterations: of the skeleton, >= 0; use half the width, in pixels, of the widest structure.
      smooth: s above, in pixels; must be positive.
      per_image: False treats the batch as one image.

    >>> labels = jnp.zeros((1, 3, 7), int).at[:, 1].set(1)  # a road from left to right
    >>> connected = 20.0 * jax.nn.one_hot(labels, 2)
    >>> broken = 20.0 * jax.nn.one_hot(labels.at[:, :, 3].set(0), 2)
    >>> loss = jax.jit(soft_cldice)
    >>> print(f"{loss(connected, labels):.4f} {loss(broken, labels):.4f}")
    0.0000 0.0667
    """
    check_logits_and_labels(logits, labels, where)
    num_classes = logits.shape[-1]
    classes = range(1, num_classes) if classes is None else chosen_classes(classes, num_classes)
    probabilities = jax.nn.softmax(counted_logits(logits, where))
    target = one_hot(labels, num_classes)
    others = jnp.where(target, 0.0, probabilities).sum(-1, keepdims=True)  # 1 - p of the label's class
    others = jnp.broadcast_to(others, target.shape)
    return _cldice(probabilities, others, target, where, classes, iterations, smooth, per_image)


def sigmoid_cldice(
    logits: Float[ArrayLike, "b h w c"],
    labels: BinaryLabels,
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    classes: Sequence[int] | None = None,
    iterations: int = 3,
    smooth: float = 1.0,
    per_image: bool = True,
) -> Float[Array, ""]:
    """`soft_cldice` with one sigmoid per class instead of the softmax (Shit et al., 2021, arXiv:2003.07311).

    Args:
      logits: scores, positive where the class is, any float dtype; the loss is computed in float32.
      labels: class ids, each class against all others (of a single class: 1 is the foreground, 0 is not), or a 0 or 1
        for every class of every pixel; never read where `where` is False.
      where: as in `soft_cldice`.
      classes: ids of the classes with a center line. None means all.
      iterations: as in `soft_cldice`.
      smooth: as in `soft_cldice`.
      per_image: as in `soft_cldice`.

    >>> sigmoid_cldice(jnp.zeros((1, 3, 7, 1)), jnp.zeros((1, 3, 7), int), classes=(1,))
    Traceback (most recent call last):
    jaxseg.checks.UserError: `classes` must be different class ids in [0, 1), at least one, got (1,).
    """
    check_binary(logits, labels, where)
    num_classes = logits.shape[-1]
    classes = chosen_classes(classes, num_classes)
    logits = counted_logits(logits, where)
    target = binary_targets(labels, num_classes)
    return _cldice(
        jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits), target, where, classes, iterations, smooth, per_image
    )


def _cldice(probabilities, complement, target, where, classes, iterations, smooth, per_image):
    check_smooth(smooth)
    if not classes:
        return jnp.float32(0.0)
    if where is not None:
        target = target & where[..., None]
    p, q, t = (
        jnp.concatenate([lax.slice_in_dim(x, k, k + 1, axis=3) for k in classes], axis=3)
        for x in (probabilities, complement, target)
    )
    predicted = soft_skeleton(p, iterations=iterations, where=where)
    true = soft_skeleton(t.astype(jnp.float32), iterations=iterations, where=where)
    pixels = (1, 2) if per_image else (0, 1, 2)
    outside = jnp.where(t, 0.0, predicted).sum(pixels) / (predicted.sum(pixels) + smooth)  # 1 - precision
    missed = (true * q).sum(pixels) / (true.sum(pixels) + smooth)  # 1 - sensitivity
    # 1 - 2(1-a)(1-b) / ((1-a) + (1-b)), without taking small numbers from 1.
    return ((outside * (1 - missed) + missed * (1 - outside)) / (2 - outside - missed)).mean()
