"""U-Net's loss: cross entropy with larger weights on the background between neighboring cells."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import UserError, check_logits_and_labels
from jaxseg.losses.cross_entropy import cross_entropy
from jaxseg.losses.pixels import one_hot, per_class
from jaxseg.ops.components import connected_components
from jaxseg.ops.distance import two_nearest


def unet_cross_entropy(
    logits: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    cell_class: int = -1,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_weights: Sequence[float] | None = None,
) -> Float[Array, ""]:
    """Cross entropy weighted by U-Net's map w, Σ w·(-log p(label)) / Σ w.

    Ronneberger et al., 2015, arXiv:1505.04597, eq. 1 and 2. Cells are the connected regions of `cell_class` in the
    label; they are computed inside the step, so that the map fits the augmented label. Cells that touch in the label
    count as one: if you have a map of cell ids, pass `unet_weight_map(ids)` to `cross_entropy` as `pixel_weights`.

    Args:
      logits: unnormalized scores, any float dtype; the loss is computed in float32.
      labels: class ids in [0, c); never read where `where` is False.
      where: valid pixels (None means all). Without any, loss and gradient are 0.
      cell_class: id of the class of the cells; -1 is the last class.
      w0: weight added between two cells that nearly touch, >= 0.
      sigma: distance scale of that weight, in pixels; must be positive.
      class_weights: weight of each class's pixels before w0 is added, >= 0; None means 1.

    >>> labels = jnp.array([[[1, 0, 1, 0]]])
    >>> logits = jnp.log(jnp.array([[[[0.5, 0.5], [0.25, 0.75], [0.5, 0.5], [0.5, 0.5]]]]))
    >>> print(f"{unet_cross_entropy(logits, labels, sigma=1.0):.4f}")  # log 2, and log 4 with weight 2.35 of 5.35
    0.9977
    """
    check_logits_and_labels(logits, labels, where)
    num_classes = logits.shape[-1]
    if not -num_classes <= cell_class < num_classes:
        raise UserError(f"`cell_class` must be a class id in [0, {num_classes}), or -1 for the last, got {cell_class}.")
    is_cell = labels == cell_class % num_classes
    if where is not None:
        is_cell &= where
    weights = unet_weight_map(connected_components(is_cell), where=where, w0=w0, sigma=sigma, class_weights=(0.0, 0.0))
    base = jnp.ones(num_classes) if class_weights is None else per_class(class_weights, num_classes, "class_weights")
    weights = weights + jnp.where(one_hot(labels, num_classes), base[None, None, None], 0.0).sum(-1)
    return cross_entropy(logits, labels, where=where, pixel_weights=weights)


def unet_weight_map(
    cells: Integer[ArrayLike, "b h w"],
    *,
    where: Bool[ArrayLike, "b h w"] | None = None,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_weights: tuple[float, float] = (1.0, 1.0),
) -> Float[Array, "b h w"]:
    """U-Net's border weights, w_c + w0·exp(-(d1 + d2)² / 2σ²), for `pixel_weights` of the cross entropy.

    Ronneberger et al., 2015, arXiv:1505.04597, eq. 2: d1 and d2 are the distances to the nearest and the second nearest
    cell. As in the paper's fig. 3d, the second term applies to the background only: it separates touching cells. In an
    image with fewer than two cells it is 0.

    Args:
      cells: 0 for background, else the id of the cell, any number > 0; never read where `where` is False.
      where: valid pixels (None means all). The others belong to no cell and have weight 0.
      w0: height of the second term, >= 0.
      sigma: its width σ, in pixels; must be positive.
      class_weights: w_c of the background and of the cells, >= 0.

    >>> weights = unet_weight_map(jnp.array([[[1, 0, 2, 0]]]), sigma=1.0)
    >>> " ".join(f"{w:.2f}" for w in weights[0, 0])  # between the cells 1 + 10 exp(-(1 + 1)² / 2)
    '1.00 2.35 1.00 1.00'
    """
    if not (w0 >= 0 and sigma > 0 and len(class_weights) == 2 and min(class_weights) >= 0):
        raise UserError(
            "U-Net's weights want w0 >= 0, sigma > 0 and, of the map, two class_weights >= 0, got"
            f" w0 {w0}, sigma {sigma}, class_weights {class_weights}."
        )
    if where is not None:
        cells = jnp.where(where, cells, 0)
    nearest, second = two_nearest(cells)
    background, cell = class_weights
    border = w0 * jnp.exp(-jnp.square(nearest + second) / (2 * sigma**2))
    weights = jnp.where(cells > 0, cell, background + border)
    return weights if where is None else jnp.where(where, weights, 0.0)
