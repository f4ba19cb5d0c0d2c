"""PolyLoss: cross entropy whose first polynomial coefficient is another."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import UserError, check_logits_and_labels
from jaxseg.losses.pixels import counted_logits, one_hot, per_class, ratio_where, surprise


def poly_cross_entropy(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    epsilon: float = 1.0,
    class_weights: Sequence[float] | Float[ArrayLike, " c"] | None = None,
) -> Float[Array, ""]:
    """Poly-1 cross entropy, -log p(y) + ε·(1 - p(y)), mean over the valid pixels.

    The Poly-1 form of PolyLoss (Leng et al., 2022, arXiv:2204.12511), in which -log p is the sum of (1 - p)^j / j over
    all j >= 1, and ε is added to the coefficient of j = 1. ε = 0 is cross entropy. The slope with respect to p is
    -1/p - ε: a positive ε makes the network surer of pixels that are nearly right, a negative one less sure. With class
    weights w the mean is Σ w·loss / Σ w, as in `cross_entropy`.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). Without any, loss and gradient are 0.
      epsilon: ε above, >= -1, so that the loss never rises with p(y).
      class_weights: one weight per class, >= 0.

    >>> logits = jnp.log(jnp.array([[[[0.5, 0.5], [0.75, 0.25]]]]))
    >>> print(f"{poly_cross_entropy(logits, jnp.array([[[0, 0]]])):.4f}")  # (log 2 + 0.5 + log(4 / 3) + 0.25) / 2
    0.8654
    """
    check_logits_and_labels(logits, labels, where)
    if not epsilon >= -1:
        raise UserError(f"`epsilon` must be >= -1, got {epsilon}. 0 is cross entropy.")
    logits = counted_logits(logits, where)
    target = one_hot(labels, logits.shape[-1])
    negative_log_p, rest = surprise(logits, target)
    loss, weights = negative_log_p + epsilon * rest, jnp.ones_like(rest)
    if class_weights is not None:
        class_weights = per_class(class_weights, logits.shape[-1], "class_weights")
        weights = jnp.where(target, class_weights, 0.0).sum(-1)
    return ratio_where(loss * weights, weights, where)
