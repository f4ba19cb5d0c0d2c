"""Boundary IoU: the overlap of the zones along the borders, inside the regions."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Integer

from jaxseg.metrics.arrays import ratio
from jaxseg.metrics.borders import class_means, count, find_image, in_pixels, lengths_of_classes, map_classes
from jaxseg.metrics.confusion import check_predictions
from jaxseg.metrics.tally import Metric, Tally
from jaxseg.ops.distance import distance_along


def boundary_overlap(
    predictions: Integer[ArrayLike, "b h w"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    num_classes: int,
    where: Bool[ArrayLike, "b h w"] | None = None,
    sizes: Integer[ArrayLike, "b 2"] | None = None,
    width: float | Sequence[float] = 0.02,
    image_border: bool = True,
) -> dict[str, Int[Array, "b c"]]:
    """Intersection and union, in pixels, of the border zones of predicted and labeled regions, per image and class.

    Their ratio is boundary IoU (Cheng et al., 2021, arXiv:2103.16562). As in the authors' code a pixel lies
    along the border if one of another class, or the end of the image, is within `width` rows and columns.

    Args:
      predictions: class ids; never read where `where` is False.
      labels: class ids; never read where `where` is False.
      num_classes: c, of the result.
      where: valid pixels (None means all); invalid pixels belong to no class.
      sizes: (height, width) of each image inside the arrays, at the top left. None is the smallest rectangle that holds
        all valid pixels.
      width: in pixels, or, below 1, a share of the image's diagonal, then rounded and at least 1; one number or one
        per class, > 0.
      image_border: whether a region has a border where the image ends.

    >>> labels, predictions = jnp.array([[[1, 1, 1, 0, 0, 0]]]), jnp.array([[[1, 1, 0, 0, 0, 0]]])
    >>> found = boundary_overlap(predictions, labels, num_classes=2, width=1.0, image_border=False)
    >>> found["intersection"].tolist(), found["union"].tolist()
    ([[0, 0]], [[2, 2]])
    """
    check_predictions(predictions, labels, where)
    image = find_image(labels, where, sizes)
    widths = lengths_of_classes(width, num_classes, "width")

    def of_class(k: Integer[ArrayLike, ""], width: Float[ArrayLike, ""]) -> dict[str, Int[Array, " b"]]:
        reach = jnp.maximum(jnp.round(in_pixels(width, image)), 1).astype(jnp.int32)[None, :, None, None]
        regions = jnp.stack([predictions == k, labels == k]) & image.counted[None]
        along = distance_along(image.counted[None] & ~regions, -1) <= reach
        along = distance_along(along, -2) <= reach
        if image_border:
            along |= image.to_end[None] <= reach
        predicted, labeled = along & regions
        return {"intersection": count(predicted & labeled), "union": count(predicted | labeled)}

    return map_classes(of_class, widths)


def boundary_iou_scores(*, width: float | Sequence[float] = 0.02, image_border: bool = True) -> Metric:
    """Returns the metric of `boundary_overlap`: `boundary_iou`, from sums over all images like `iou`, and its mean.

    Args:
      width: in pixels, or, below 1, a share of the image's diagonal; one number or one per class, > 0.
      image_border: whether a region has a border where the image ends.

    >>> sums = Tally({"intersection": [2, 0, 0], "union": [4, 2, 0]}, {})
    >>> boundary_iou_scores().result(sums)
    {'boundary_iou': [0.5, 0.0, nan], 'mean_boundary_iou': 0.25}
    """

    def update(
        predictions: Integer[ArrayLike, "b h w"],
        labels: Integer[ArrayLike, "b h w"],
        *,
        where: Bool[ArrayLike, "b h w"] | None,
        num_classes: int,
        sizes: Integer[ArrayLike, "b 2"] | None = None,
    ) -> Tally:
        options = {"width": width, "image_border": image_border}
        found = boundary_overlap(predictions, labels, num_classes=num_classes, where=where, sizes=sizes, **options)
        return Tally({key: value.sum(0) for key, value in found.items()}, {})

    def result(tally: Tally) -> dict[str, Any]:
        shared, union = (np.asarray(tally.sums[key], np.float64) for key in ("intersection", "union"))
        return class_means({"boundary_iou": ratio(shared, union)[None]})

    return Metric("predictions", update, result, sized=True)
