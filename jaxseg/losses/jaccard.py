"""Jaccard: intersection over union as a loss."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.losses.pixels import BinaryLabels
from jaxseg.losses.regions import check_smooth, overlap_loss, sigmoid_counts, softmax_counts


def jaccard(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    smooth: float = 1.0,
    per_image: bool = True,
    log: bool = False,
) -> Float[Array, ""]:
    """Soft Jaccard or IoU loss, 1 - (|P∩T| + s) / (|P∪T| + s), mean over images and classes.

    Rahman & Wang, 2016, doi:10.1007/978-3-319-50835-1_22. P is the softmax of the logits, T the one-hot
    label, |P∪T| = Σ p + t - p·t. Absent classes are treated as `dice` does.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). An image without any contributes 0.
      smooth: s above, in pixels; must be positive.
      per_image: False treats the batch as one image.
      log: -log of the ratio instead of 1 minus the ratio.

    >>> logits = jnp.array([[[[9.0, -9.0], [9.0, -9.0]]]])
    >>> print(f"{jaccard(logits, jnp.array([[[0, 1]]])):.4f}")  # (1 - (1 + 1) / (2 + 1) + 1 - (0 + 1) / (1 + 1)) / 2
    0.4167
    """
    check_smooth(smooth)
    counts = softmax_counts(logits, labels, where, per_image=per_image)
    return jnp.mean(overlap_loss(counts, fp=1.0, fn=1.0, smooth=smooth, log=log))


def sigmoid_jaccard(
    logits: Float[ArrayLike, "b h w c"],
    labels: BinaryLabels,
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    smooth: float = 1.0,
    per_image: bool = True,
    log: bool = False,
) -> Float[Array, ""]:
    """Jaccard loss of each class separately (Rahman & Wang, 2016): P is the sigmoid of the logits.

    For one foreground class, or for classes that may overlap. Everything else is as in `jaccard`.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids (each class against all others; with c = 1, 1 is the foreground), or a 0 or 1 for every class.
      where: valid pixels (None means all). An image without any contributes 0.
      smooth: as in `jaccard`, in pixels; must be positive.
      per_image: False treats the batch as one image.
      log: -log of the ratio instead of 1 minus the ratio.

    >>> print(f"{sigmoid_jaccard(jnp.zeros((1, 1, 2, 1)), jnp.array([[[0, 1]]])):.4f}")  # 1 - (1/2 + 1) / (3/2 + 1)
    0.4000
    """
    check_smooth(smooth)
    counts = sigmoid_counts(logits, labels, where, per_image=per_image)
    return jnp.mean(overlap_loss(counts, fp=1.0, fn=1.0, smooth=smooth, log=log))
