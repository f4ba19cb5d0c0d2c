"""Per-image score statistics, and confidence intervals of the score of the whole split."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Integer

from jaxseg.metrics.arrays import finite_mean, ratio
from jaxseg.metrics.bootstrap import bootstrap_interval
from jaxseg.metrics.confusion import check_predictions
from jaxseg.metrics.tally import Metric, Tally

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def spread_scores(*, samples: int = 1000, level: float = 0.95, seed: int = 0) -> Metric:
    """Returns the metric of the spread over images: the mean and deviation of their IoU, and intervals of the mIoU.

    - `image_miou`, `image_miou_std`: mean and standard deviation over images of the image's mIoU, over the classes that
      its label or prediction has; `image_iou`, `image_iou_std`: the same per class, over the images that have it.
    - `miou_low`, `miou_high`, `iou_low`, `iou_high`: bootstrap interval of the data set's mIoU and IoU, which are those
      of the confusion matrix; drawn from images (`metrics.bootstrap`).
    - `spread`: the number of images, quantiles of their mIoU, and the options.

    A standard deviation divides by the number of images less one; it is nan for one image.

    Args:
      samples: draws of the bootstrap, at least 1.
      level: share of the draws inside an interval, between 0 and 1.
      seed: of the draws.

    >>> metric, labels = spread_scores(samples=20), jnp.array([[[0, 0]], [[0, 1]]])
    >>> result = metric.result(metric.update(jnp.zeros((2, 1, 2), int), labels, where=None, num_classes=2))
    >>> result["image_miou"], result["image_iou"]  # images of 1 and (1/2 + 0) / 2
    (0.625, [0.75, 0.0])
    """

    def update(
        predictions: Integer[ArrayLike, "b h w"],
        labels: Integer[ArrayLike, "b h w"],
        *,
        where: Bool[ArrayLike, "b h w"] | None,
        num_classes: int,
    ) -> Tally:
        check_predictions(predictions, labels, where)
        classes = jnp.arange(num_classes)[None, None, None]
        counted = jnp.ones(labels.shape, bool) if where is None else where
        # As in the confusion matrix, a pixel whose label or prediction is no class counts nowhere.
        counted &= (labels >= 0) & (labels < num_classes) & (predictions >= 0) & (predictions < num_classes)
        truth, guess = ((x.astype(jnp.int32)[..., None] == classes) & counted[..., None] for x in (labels, predictions))
        counts = {"tp": truth & guess, "fp": guess & ~truth, "fn": truth & ~guess}
        return Tally({}, {key: x.sum((1, 2), dtype=jnp.int32) for key, x in counts.items()})

    def result(tally: Tally) -> dict[str, Any]:
        rows = np.stack([np.asarray(tally.images[key], np.float64) for key in ("tp", "fp", "fn")], 1)  # [n, 3, c]
        rows = rows[rows.any((1, 2))]  # the images with a valid pixel
        return _scores(rows, samples=samples, level=level, seed=seed)

    return Metric("predictions", update, result)


def _scores(rows: np.ndarray, **options: Any) -> dict[str, Any]:
    count, _, classes = rows.shape
    iou = _iou(rows)
    miou = finite_mean(iou, 1)
    numbers = np.full((2, classes + 1), np.nan)
    if count:

        def statistic(sums: np.ndarray) -> np.ndarray:
            iou = _iou(sums.reshape(-1, 3, classes))
            return np.concatenate([iou, finite_mean(iou, 1)[:, None]], 1)

        numbers = np.stack(bootstrap_interval(statistic, rows.reshape(count, -1), **options))
    quantiles = np.quantile(miou, _QUANTILES) if count else np.full(len(_QUANTILES), np.nan)
    return {
        "image_miou": float(finite_mean(miou)),
        "image_miou_std": float(_deviation(miou)),
        "miou_low": float(numbers[0, -1]),
        "miou_high": float(numbers[1, -1]),
        "image_iou": finite_mean(iou).tolist(),
        "image_iou_std": _deviation(iou).tolist(),
        "iou_low": numbers[0, :-1].tolist(),
        "iou_high": numbers[1, :-1].tolist(),
        "spread": {
            "images": count,
            "quantiles": {f"{100 * q:g}%": float(v) for q, v in zip(_QUANTILES, quantiles, strict=True)},
            **options,
        },
    }


def _iou(rows: np.ndarray) -> np.ndarray:
    """[n, 3, c] to [n, c]; nan for a class that is neither labeled nor predicted."""
    return ratio(rows[:, 0], rows.sum(1))


def _deviation(values: np.ndarray) -> np.ndarray | np.float64:
    """The sample's standard deviation over the first axis; nan of fewer than two values."""
    count = (~np.isnan(values)).sum(0)
    squares = (values - finite_mean(values)) ** 2
    total = np.where(np.isnan(squares), 0.0, squares).sum(0)
    return np.sqrt(ratio(total, count - 1))
