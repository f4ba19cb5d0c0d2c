"""Matthews' correlation coefficient as a loss."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.losses.regions import check_smooth, softmax_counts


def mcc(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    smooth: float = 1.0,
    per_image: bool = True,
) -> Float[Array, ""]:
    """1 - Matthews' correlation coefficient of the soft confusion matrix, mean over images (0 to 2).

    Abhishek & Hamarneh, 2021, arXiv:2010.13454, for two classes; for more, Gorodkin's coefficient of c classes (2004,
    doi:10.1016/j.compbiolchem.2004.09.006), which is the same for two. For one image, let P and T be the
    fractions of pixels predicted as and labeled with each class, and r the fraction predicted correctly. The loss is

        1 - (r - Σ P·T) / sqrt((1 - Σ P²)(1 - Σ T²))

    It depends on all classes at once, including true negatives, so an absent class needs no special case. For an image
    of one class it would be undefined; `smooth` defines it.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). An image without any contributes 0.
      smooth: number of correctly predicted pixels added to each class; must be positive.
      per_image: False treats the batch as one image.

    >>> labels = jnp.array([[[0, 0, 1, 1]]])
    >>> print(f"{mcc(jnp.array([[[[9.0, -9], [9, -9], [9, -9], [-9, 9]]]]), labels):.4f}")  # 1 - 6 / sqrt(72)
    0.2929
    """
    check_smooth(smooth)
    counts = softmax_counts(logits, labels, where, per_image=per_image)
    total = (counts.tp + counts.fn).sum(-1, keepdims=True) + smooth * logits.shape[-1]
    predicted, actual = (counts.tp + counts.fp + smooth) / total, (counts.tp + counts.fn + smooth) / total
    root_a, root_b = jnp.sqrt(_unlike(predicted)), jnp.sqrt(_unlike(actual))
    # With A = 1 - Σ P², B = 1 - Σ T² and e = 1 - r, r - Σ P·T is (A + B) / 2 - e + Σ (P - T)² / 2. Hence sqrt(A B) less
    # that is e less two squares of small numbers: no digit is lost where the prediction is good.
    error = (counts.fn / total).sum(-1)
    gap = (counts.fp - counts.fn) / total
    roots = (gap * (predicted + actual)).sum(-1) / (root_a + root_b)  # sqrt(B) - sqrt(A)
    return ((error - ((gap**2).sum(-1) + roots**2) / 2) / (root_a * root_b)).mean()


def _unlike(shares: Float[ArrayLike, "... c"]) -> Float[Array, "..."]:
    """Returns 1 - Σ shares², the probability that two pixels differ in class, as a sum of positive products."""
    others = 1 - jnp.eye(shares.shape[-1])
    pairs = shares[..., :, None] * shares[..., None, :]
    chance = (pairs * jnp.broadcast_to(others, pairs.shape)).sum((-1, -2))
    return chance + 1e-12  # of one class alone it is 0, and a square root's slope there infinite
