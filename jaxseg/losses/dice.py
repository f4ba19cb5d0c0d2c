"""Dice: the overlap of two regions as a loss, blind to how large the region is."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxseg.checks import UserError, check_logits_and_labels
from jaxseg.losses.pixels import counted_logits, one_hot


def dice(
    logits: Float[Array, "b h w c"],
    labels: Int[Array, "b h w"],
    *,
    where: Bool[Array, "b h w"] | None = None,
    smooth: float = 1.0,
    per_image: bool = True,
) -> Float[Array, ""]:
    """Soft Dice loss, 1 - (2|P∩T| + s) / (|P| + |T| + s), mean over images and classes.

    Milletari et al., 2016, arXiv:1606.04797, with sums rather than sums of squares. P is the softmax of the logits, T
    the one-hot label. A class that neither the label holds nor the model predicts tends to 0; one that the model
    predicts where the label has none is punished, since every class and image is in the mean.

    Args:
      logits: unnormalised scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: pixels that count (all, if None). An image with none contributes 0.
      smooth: s above, in pixels; must be positive.
      per_image: False takes the batch for one image. A class that few pictures hold is then not taught to vanish from
        all the others: on such data the mean over images learns to leave rare classes out.

    >>> logits = jnp.array([[[[9.0, -9.0], [-9.0, 9.0]]]])
    >>> print(f"{dice(logits, jnp.array([[[0, 1]]])):.4f}")
    0.0000
    >>> print(f"{dice(logits, jnp.array([[[1, 0]]])):.4f}")  # 1 - (0 + 1) / (1 + 1 + 1)
    0.6667
    """
    check_logits_and_labels(logits, labels, where)
    if not smooth > 0:
        raise UserError(f"`smooth` must be positive, got {smooth}. 1.0 is one pixel.")
    pixels = tuple(range(1 if per_image else 0, labels.ndim))
    probabilities = jax.nn.softmax(counted_logits(logits, where))
    target = one_hot(labels, logits.shape[-1])
    if where is not None:
        probabilities = jnp.where(where[..., None], probabilities, 0.0)
        target = target & where[..., None]
    differ = jnp.where(target, 1 - probabilities, probabilities).sum(pixels)  # Σ|p - t| = |P| + |T| - 2|P∩T|
    total = probabilities.sum(pixels) + target.sum(pixels, dtype=jnp.int32).astype(jnp.float32)
    return (differ / (total + smooth)).mean()  # a sum of small numbers, not a difference of large ones
