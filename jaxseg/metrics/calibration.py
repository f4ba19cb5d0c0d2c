"""Calibration errors of the probabilities: over all pixels, class by class, and near boundaries."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from jaxseg.checks import UserError
from jaxseg.metrics.arrays import ratio
from jaxseg.metrics.fixed import fixed_sum, fixed_value
from jaxseg.metrics.tally import Metric, Tally, check_probabilities

_SMALLEST = 2.0**-126  # of float32's normal numbers; a probability of 0 costs 87.3 nats
_NATS = 128.0  # a power of two above that


def calibration_scores(*, bins: int = 15) -> Metric:
    """Returns the metric of calibration: `ece`, `mce`, `classwise_ece`, `nll` and `brier`, and the reliability diagram.

    Pixels fall into bins of equal width, ((m - 1) / M, m / M], by the probability of the predicted class. `ece` is
    Σ_m n_m / n · |accuracy - mean probability|, `mce` the largest of these gaps (Guo et al., 2017, arXiv:1706.04599,
    section 2). `class_ece` bins every class's own probability, whether predicted or not, against the class's share of
    the labels in the bin, and `classwise_ece` is its mean over all classes (Kull et al., 2019, arXiv:1910.12656,
    section 2). `nll` is the mean of -log p(label), in nats; `brier` of Σ_k (p_k - [label is k])², in [0, 2].

    `reliability` holds the bins' edges, pixels, mean probability and accuracy, for `visualize.reliability_figure`.
    The sums are exact (`metrics.fixed`): no bit depends on batches or devices.

    Args:
      bins: M, at least 1.

    >>> metric = calibration_scores(bins=2)
    >>> labels, probabilities = np.array([[[0, 1]]]), np.array([[[[0.75, 0.25], [0.75, 0.25]]]], np.float32)
    >>> import jax
    >>> update = jax.jit(metric.update, static_argnames="num_classes")
    >>> result = metric.result(update(probabilities, labels, where=None, num_classes=2))
    >>> result["ece"], result["class_ece"], result["brier"]  # at 75 %, half are right
    (0.25, [0.25, 0.25], 0.625)
    """
    return _metric("calibration", "", bins, lambda labels, where: where)


def boundary_calibration_scores(*, bins: int = 15, radius: int = 3) -> Metric:
    """Returns the metric of calibration near label boundaries, where most errors are: `boundary_ece`, ….

    The scores of `calibration_scores` over the pixels that have a pixel of another label within `radius` rows and
    columns; Ding et al., 2021, arXiv:2008.05105, report such a region apart. `boundary_share` is the fraction
    of the valid pixels that are in it. Invalid pixels have no label, so there is no boundary next to them.

    Args:
      bins: M, at least 1.
      radius: in pixels, at least 1.

    >>> metric = boundary_calibration_scores(radius=1)
    >>> labels, probabilities = np.array([[[0, 0, 0, 1]]]), np.full((1, 1, 4, 2), 0.5, np.float32)
    >>> import jax
    >>> update = jax.jit(metric.update, static_argnames="num_classes")
    >>> result = metric.result(update(probabilities, labels, where=None, num_classes=2))
    >>> result["boundary_share"], result["boundary_ece"]  # two of four pixels, one of them right
    (0.5, 0.0)
    """
    if radius < 1:
        raise UserError(f"`radius` must be at least 1 pixel, got {radius}.")
    return _metric(
        "boundary_calibration", "boundary_", bins, lambda labels, where: where & near_boundary(labels, where, radius)
    )


def near_boundary(
    labels: Integer[ArrayLike, "b h w"], where: Bool[ArrayLike, "b h w"], radius: int
) -> Bool[Array, "b h w"]:
    """Returns where a valid pixel of another label lies within `radius` rows and columns.

    >>> labels = np.array([[[0, 0, 0, 1, 1, 7]]])
    >>> import jax
    >>> jax.jit(near_boundary, static_argnums=2)(labels, labels < 7, 1).astype(int).tolist()
    [[[0, 0, 1, 1, 0, 0]]]
    """
    labels, top = labels.astype(jnp.int32), jnp.iinfo(jnp.int32).max
    largest, smallest = jnp.where(where, labels, -1), jnp.where(where, labels, top)
    for window in ((1, 2 * radius + 1, 1), (1, 1, 2 * radius + 1)):
        largest = lax.reduce_window(largest, jnp.int32(-1), lax.max, window, (1, 1, 1), "SAME")
        smallest = lax.reduce_window(smallest, jnp.int32(top), lax.min, window, (1, 1, 1), "SAME")
    return where & (largest != smallest)


def _metric(name: str, prefix: str, bins: int, region: Callable[..., Array]) -> Metric:
    if bins < 1:
        raise UserError(f"`bins` must be at least 1, got {bins}.")

    def update(
        probabilities: Float[ArrayLike, "b h w c"],
        labels: Integer[ArrayLike, "b h w"],
        *,
        where: Bool[ArrayLike, "b h w"] | None,
        num_classes: int,
    ) -> Tally:
        check_probabilities(probabilities, labels, where, name)
        counted = jnp.ones(labels.shape, bool) if where is None else where
        chosen = region(labels, counted)
        return Tally({"pixels": counted.sum(dtype=jnp.int32), **_count(probabilities, labels, chosen, bins)}, {})

    def result(tally: Tally) -> dict[str, Any]:
        scores = _scores({key: np.asarray(value) for key, value in tally.sums.items()})
        if not prefix:
            scores.pop("share")
        return {prefix + key: value for key, value in scores.items()}

    return Metric("probabilities", update, result)


def _count(
    probabilities: Float[ArrayLike, "b h w c"],
    labels: Integer[ArrayLike, "b h w"],
    where: Bool[ArrayLike, "b h w"],
    bins: int,
) -> dict[str, Array]:
    """Counts pixels, hits and probabilities by bin, per class and, in the last column, for the predicted class."""
    p = jnp.where(where[..., None], probabilities.astype(jnp.float32), 0.0)
    ids = lax.broadcasted_iota(jnp.int32, p.shape, p.ndim - 1)
    truth = (labels.astype(jnp.int32)[..., None] == ids) & where[..., None]
    of_label = jnp.where(truth, p, 0.0).sum(-1)
    nll = jnp.where(where, -jnp.log(jnp.maximum(of_label, _SMALLEST)), 0.0)
    brier = jnp.where(truth, 1.0 - p, p)
    right = jnp.argmax(p, axis=-1) == jnp.where(where, labels, -1)
    p = jnp.concatenate([p, p.max(-1, keepdims=True)], -1)
    hit = jnp.concatenate([truth, right[..., None]], -1)
    edges = np.arange(bins + 1, dtype=np.float32) / bins
    edges[[0, -1]] = -1.0, np.inf  # 0 is in the first bin, a 1 rounded upwards in the last

    def count(pair: tuple[ArrayLike, ArrayLike]) -> Any:
        inside = (p > pair[0]) & (p <= pair[1]) & where[..., None]
        pixels, hits = (x.sum((0, 1, 2), dtype=jnp.int32) for x in (inside, inside & hit))
        return pixels, hits, fixed_sum(jnp.where(inside, p, 0.0))

    pixels, hits, mass = lax.map(count, (jnp.asarray(edges[:-1]), jnp.asarray(edges[1:])))
    return {
        "bin_pixels": pixels,
        "bin_hits": hits,
        "bin_mass": mass,
        "nll": fixed_sum(nll, _NATS),
        "brier": fixed_sum((brier * brier).sum(-1), 2.0),
    }


def _scores(sums: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the scores of a data set's sums, [m, c + 1] by bin and class."""
    pixels, hits = (sums[key].astype(np.float64) for key in ("bin_pixels", "bin_hits"))
    mass = fixed_value(np.moveaxis(sums["bin_mass"], 1, 0))
    total, bins = pixels[:, -1].sum(), len(pixels)
    gaps = np.abs(hits - mass)  # a bin's pixels times |accuracy - mean probability|
    errors = ratio(gaps.sum(0), np.full(gaps.shape[1], total))
    filled = pixels[:, -1] > 0
    nll, brier = fixed_value(sums["nll"], _NATS), fixed_value(sums["brier"], 2.0)
    return {
        "ece": float(errors[-1]),
        "mce": float(ratio(gaps, pixels)[filled, -1].max()) if total else float("nan"),
        "classwise_ece": float(errors[:-1].mean()),
        "nll": float(ratio(nll, total)),
        "brier": float(ratio(brier, total)),
        "share": float(ratio(total, sums["pixels"])),
        "class_ece": errors[:-1].tolist(),
        "reliability": {
            "edges": (np.arange(bins + 1) / bins).tolist(),
            "pixels": [int(n) for n in pixels[:, -1]],
            "probability": ratio(mass, pixels)[:, -1].tolist(),
            "accuracy": ratio(hits, pixels)[:, -1].tolist(),
        },
    }
