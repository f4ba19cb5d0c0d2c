"""Surface distances of predicted and labeled regions: Hausdorff, average distance, surface Dice and boundary F."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Integer, Num

from jaxseg.checks import UserError
from jaxseg.metrics.borders import Image, class_means, count, find_image, in_pixels, lengths_of_classes, map_classes
from jaxseg.metrics.confusion import check_predictions
from jaxseg.metrics.tally import Metric, Tally
from jaxseg.ops.distance import distance_along, squared_distance_in_units, squared_distance_transform


def surface_distances(
    predictions: Integer[ArrayLike, "b h w"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    num_classes: int,
    where: Bool[ArrayLike, "b h w"] | None = None,
    sizes: Integer[ArrayLike, "b 2"] | None = None,
    tolerance: float | Sequence[float] = 1.0,
    image_border: bool = True,
    spacing: Sequence[float] | None = None,
) -> dict[str, Float[Array, "b c"]]:
    """Distances between the surfaces of the predicted and of the labeled region, for every image and class.

    A region's surface is its pixels that have one of another class, or the end of the image, among their four
    neighbors. From every pixel of either surface the distance to the other surface is taken, in pixels, or in the unit
    of `spacing`. Then

    - `hausdorff` is the largest of them, `hausdorff95` the larger of the two directions' 95th percentiles, linearly
      interpolated;
    - `average_surface_distance` is the mean of them all, `average_distance_to_label` of those from the prediction;
    - `surface_dice` is the share of them that is at most `tolerance` (Nikolov et al., 2018, arXiv:1809.04430; each
      pixel is one unit of surface).

    With neither surface all are nan, with only one the distances are inf and `surface_dice` is 0. Invalid pixels are
    no neighbors: a region that ends at them has no surface there.

    Args:
      predictions: class ids; never read where `where` is False.
      labels: class ids; never read where `where` is False.
      num_classes: c, of the result.
      where: valid pixels (None means all).
      sizes: (height, width) of each image inside the arrays, at the top left. None is the smallest rectangle that holds
        all valid pixels.
      tolerance: in pixels, or, below 1, a share of the image's diagonal; with `spacing` in its unit, also below 1; one
        number or one per class, >= 0.
      image_border: whether a region has a surface where the image ends.
      spacing: height and width of a pixel, such as millimeters; None is 1 pixel.

    >>> labels, predictions = jnp.array([[[1, 0, 0, 0, 0]]]), jnp.array([[[1, 1, 1, 0, 0]]])
    >>> found = surface_distances(predictions, labels, num_classes=2, image_border=False)
    >>> {key: value[0].tolist() for key, value in found.items() if key in ("hausdorff", "surface_dice")}
    {'hausdorff': [2.0, 2.0], 'surface_dice': [0.0, 0.0]}
    """
    check_predictions(predictions, labels, where)
    image = find_image(labels, where, sizes)
    tolerances = lengths_of_classes(tolerance, num_classes, "tolerance")
    sides = _check_spacing(spacing)

    def of_class(k: Integer[ArrayLike, ""], tolerance: Float[ArrayLike, ""]) -> dict[str, Float[Array, " b"]]:
        edges, squared = _surfaces(predictions == k, labels == k, image, image_border, sides)
        reach = in_pixels(tolerance, image)[None, :, None, None] if sides is None else tolerance
        distances = jnp.sqrt(squared.astype(jnp.float32))
        pixels = count(edges)
        absent = pixels == 0
        totals = jnp.where(edges, distances, 0.0).sum((2, 3))
        within = count(edges & (distances <= reach))
        both = pixels.sum(0)
        worst = {
            "hausdorff": jnp.where(edges, distances, 0.0).max((2, 3)).max(0),
            "hausdorff95": jnp.where(absent, 0.0, _percentile(squared, edges, 95)).max(0),
            "average_surface_distance": totals.sum(0) / jnp.maximum(both, 1).astype(jnp.float32),
            "average_distance_to_label": totals[0] / jnp.maximum(pixels[0], 1).astype(jnp.float32),
        }
        found = {key: jnp.where(absent.any(0), jnp.inf, value) for key, value in worst.items()}
        found["surface_dice"] = jnp.where(absent.any(0), 0.0, within.sum(0) / jnp.maximum(both, 1))
        return {key: jnp.where(both > 0, value, jnp.nan) for key, value in found.items()}

    return map_classes(of_class, tolerances)


def boundary_f_measure(
    predictions: Integer[ArrayLike, "b h w"],
    labels: Integer[ArrayLike, "b h w"],
    *,
    num_classes: int,
    where: Bool[ArrayLike, "b h w"] | None = None,
    sizes: Integer[ArrayLike, "b 2"] | None = None,
    tolerance: float | Sequence[float] = 0.0075,
    image_border: bool = False,
) -> dict[str, Float[Array, "b c"]]:
    """Precision, recall and F1 of the pixels on the predicted surface, for every image and class.

    Precision is the share of the predicted surface's pixels within `tolerance` of the labeled surface, recall the
    share of the latter's within `tolerance` of the former; Csurka et al., 2013, whose tolerance is the default, and
    Perazzi et al., 2016 (DAVIS), whose is 0.008. Surfaces and arguments are those of `surface_distances`. With neither
    surface all are nan, with only one all are 0.

    Args:
      predictions: class ids; never read where `where` is False.
      labels: class ids; never read where `where` is False.
      num_classes: c, of the result.
      where: valid pixels (None means all).
      sizes: (height, width) of each image inside the arrays, at the top left. None is the smallest rectangle that holds
        all valid pixels.
      tolerance: in pixels, or, below 1, a share of the image's diagonal; one number or one per class, >= 0.
      image_border: whether a region has a surface where the image ends.

    >>> labels, predictions = jnp.array([[[1, 0, 0, 0]]]), jnp.array([[[1, 1, 0, 0]]])
    >>> found = boundary_f_measure(predictions, labels, num_classes=2, tolerance=1.0)
    >>> found["boundary_f"].tolist()
    [[1.0, 1.0]]
    """
    check_predictions(predictions, labels, where)
    image = find_image(labels, where, sizes)
    tolerances = lengths_of_classes(tolerance, num_classes, "tolerance")

    def of_class(k: Integer[ArrayLike, ""], tolerance: Float[ArrayLike, ""]) -> dict[str, Float[Array, " b"]]:
        edges, squared = _surfaces(predictions == k, labels == k, image, image_border)
        near = jnp.sqrt(squared.astype(jnp.float32)) <= in_pixels(tolerance, image)[None, :, None, None]
        pixels = count(edges)
        precision, recall = count(edges & near) / jnp.maximum(pixels, 1)
        f = 2 * precision * recall / jnp.where(precision + recall > 0, precision + recall, 1.0)
        found = {"boundary_precision": precision, "boundary_recall": recall, "boundary_f": f}
        return {key: jnp.where(pixels.any(0), value, jnp.nan) for key, value in found.items()}

    return map_classes(of_class, tolerances)


def surface_scores(
    *,
    tolerance: float | Sequence[float] = 1.0,
    image_border: bool = True,
    spacing: Sequence[float] | None = None,
) -> Metric:
    """Returns the metric of `surface_distances`: `hausdorff95`, `average_surface_distance`, `surface_dice`, and means.

    Per class the mean over images; `mean_…` is the mean over classes. Images in which the class is neither labeled nor
    predicted are left out. One that has it in the label alone, or in the prediction alone, counts as a 0 in
    `surface_dice`; no distance can be given for it, so it is left out of the distances: `surface` counts the images
    of either sort, to be read together with them.

    Args:
      tolerance: in pixels, or, below 1, a share of the image's diagonal; with `spacing` in its unit, also below 1; one
        number or one per class, >= 0.
      image_border: whether a region has a surface where the image ends.
      spacing: height and width of a pixel in all images, such as millimeters; None is 1 pixel.

    >>> rows = {"hausdorff": [[3.0, np.inf], [1.0, np.nan]], "surface_dice": [[0.5, 0.0], [1.0, np.nan]]}
    >>> rows |= dict.fromkeys(("hausdorff95", "average_surface_distance"), rows["hausdorff"])  # two images
    >>> result = surface_scores().result(Tally({}, rows))
    >>> result["hausdorff"], result["surface_dice"], result["surface"]["missed"]
    ([2.0, nan], [0.75, 0.0], [0, 1])
    """
    options = {"tolerance": tolerance, "image_border": image_border, "spacing": _check_spacing(spacing)}
    given = {key: value for key, value in options.items() if value is not None}
    keys = ("hausdorff", "hausdorff95", "average_surface_distance", "surface_dice")

    def update(
        predictions: Integer[ArrayLike, "b h w"],
        labels: Integer[ArrayLike, "b h w"],
        *,
        where: Bool[ArrayLike, "b h w"] | None,
        num_classes: int,
        sizes: Integer[ArrayLike, "b 2"] | None = None,
    ) -> Tally:
        found = surface_distances(predictions, labels, num_classes=num_classes, where=where, sizes=sizes, **options)
        return Tally({}, {key: found[key] for key in keys})

    def result(tally: Tally) -> dict[str, Any]:
        known = {key: np.isfinite(np.asarray(tally.images[key])) for key in ("hausdorff", "surface_dice")}
        images = {
            "images": known["hausdorff"].sum(0).tolist(),
            "missed": (known["surface_dice"] & ~known["hausdorff"]).sum(0).tolist(),
        }
        return {**class_means({key: tally.images[key] for key in keys}), "surface": {**images, **given}}

    return Metric("predictions", update, result, sized=True)


def boundary_f_scores(*, tolerance: float | Sequence[float] = 0.0075, image_border: bool = False) -> Metric:
    """Returns the metric of `boundary_f_measure`: `boundary_f`, each class's mean over the images that have it.

    Args:
      tolerance: in pixels, or, below 1, a share of the image's diagonal; one number or one per class, >= 0.
      image_border: whether a region has a surface where the image ends.

    >>> two_images = Tally({}, {"boundary_f": [[1.0, np.nan, np.nan], [0.5, 0.25, np.nan]]})
    >>> boundary_f_scores().result(two_images)
    {'boundary_f': [0.75, 0.25, nan], 'mean_boundary_f': 0.5}
    """

    def update(
        predictions: Integer[ArrayLike, "b h w"],
        labels: Integer[ArrayLike, "b h w"],
        *,
        where: Bool[ArrayLike, "b h w"] | None,
        num_classes: int,
        sizes: Integer[ArrayLike, "b 2"] | None = None,
    ) -> Tally:
        options = {"tolerance": tolerance, "image_border": image_border}
        found = boundary_f_measure(predictions, labels, num_classes=num_classes, where=where, sizes=sizes, **options)
        return Tally({}, {"boundary_f": found["boundary_f"]})

    return Metric("predictions", update, lambda tally: class_means(tally.images), sized=True)


def _check_spacing(spacing: Sequence[float] | None) -> tuple[float, float] | None:
    if spacing is None:
        return None
    sides = np.asarray(spacing, np.float64)
    if sides.shape != (2,) or not (np.isfinite(sides) & (sides > 0)).all():
        raise UserError(
            f"`spacing` must be the height and the width of a pixel, two numbers > 0 such as (0.8, 1.4); got {spacing}."
        )
    return tuple(sides.tolist())


def _surfaces(
    predicted: Bool[ArrayLike, "b h w"],
    labeled: Bool[ArrayLike, "b h w"],
    image: Image,
    image_border: bool,
    spacing: tuple[float, float] | None = None,
) -> tuple[Bool[Array, "2 b h w"], Num[Array, "2 b h w"]]:
    """The pixels of both surfaces, and the squared distance of every pixel to the other one's; float32 with spacing."""
    regions = jnp.stack([predicted, labeled]) & image.counted[None]
    others = image.counted[None] & ~regions
    at_border = (distance_along(others, -1) <= 1) | (distance_along(others, -2) <= 1)
    if image_border:
        at_border |= image.to_end[None] <= 1
    edges = regions & at_border
    if spacing is not None:
        return edges, squared_distance_in_units(~edges[::-1], spacing)
    return edges, squared_distance_transform(~edges[::-1])


def _percentile(
    squared: Num[ArrayLike, "2 b h w"], edges: Bool[ArrayLike, "2 b h w"], percent: int
) -> Float[Array, "2 b"]:
    """The percentile of the distances at the edges, between two ranks in proportion; without a sort."""
    fractional = jnp.issubdtype(squared.dtype, jnp.floating)
    if fractional:  # not negative: in the order of their bits
        keys, bits, none = lax.bitcast_convert_type(squared, jnp.int32), 31, int(np.float32(np.inf).view(np.int32))
    else:
        keys, bits, none = squared, sum((n - 1) ** 2 for n in edges.shape[2:]).bit_length(), 2**31 - 1
    last = jnp.maximum(count(edges) - 1, 0)
    rank, between = last * percent // 100, (last * percent % 100) / 100  # whole numbers: float32 would round the rank

    def refine(i: Integer[ArrayLike, ""], found: Integer[ArrayLike, "2 b"]) -> Int[Array, "2 b"]:
        candidate = found | (1 << (bits - 1 - i))
        return jnp.where(count(edges & (keys < candidate[..., None, None])) <= rank, candidate, found)

    def root(keys: Integer[ArrayLike, "2 b"]) -> Float[Array, "2 b"]:
        return jnp.sqrt(lax.bitcast_convert_type(keys, jnp.float32) if fractional else keys.astype(jnp.float32))

    lower = lax.fori_loop(0, bits, refine, jnp.zeros_like(rank))
    above = edges & (keys > lower[..., None, None])
    next_one = jnp.where(above, keys, none).min((2, 3))
    upper = jnp.where(last + 1 - count(above) > rank + 1, lower, next_one)
    lower, upper = root(lower), root(upper)
    return lower + jnp.where(between > 0, between * (upper - lower), 0.0)
