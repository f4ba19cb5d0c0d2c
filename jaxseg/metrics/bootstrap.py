"""Bootstrap confidence intervals of a data set's score, resampling its images."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Num

from jaxseg.checks import UserError

_BUDGET = 2**24  # numbers that a chunk of draws may take


def bootstrap_interval(
    statistic: Callable[[Float[np.ndarray, "s k"]], Float[np.ndarray, "s ..."]],
    rows: Num[np.ndarray, "n k"],
    *,
    samples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Returns the percentile bootstrap interval (low, high) of a statistic of summed rows (Efron, 1979).

    A sample draws n rows with replacement and adds them up; the interval holds the middle `level` of the samples'
    statistics. Images are drawn, not pixels: neighboring pixels are not independent. The order of the rows
    does not matter. Samples whose statistic is nan (no image has the class) are left out.

    Args:
      statistic: from sums [s, k] of s samples to their statistics [s, …].
      rows: counts to be summed, one row per image, e.g. TP, FP and FN.
      samples: at least 1.
      level: fraction of the samples inside the interval, between 0 and 1.
      seed: of the draws.

    >>> share = lambda sums: sums[:, 0] / sums[:, 1]
    >>> low, high = bootstrap_interval(share, np.array([[1, 4]] * 9), samples=50)
    >>> float(low), float(high)  # images that are all alike
    (0.25, 0.25)
    """
    if samples < 1 or not 0 < level < 1:
        raise UserError(f"Expected samples >= 1 and a level between 0 and 1, got {samples} and {level}.")
    rows = np.asarray(rows, np.float64)
    if rows.ndim != 2 or not len(rows):
        raise UserError(f"Expected one row per image, [n, k] with n > 0, got shape {rows.shape}.")
    rows = rows[np.lexsort(rows.T[::-1])]
    generator = np.random.default_rng(seed)
    chunk, values = max(_BUDGET // len(rows), 1), []
    for start in range(0, samples, chunk):
        draws = generator.integers(0, len(rows), (min(chunk, samples - start), len(rows)))
        times = np.stack([np.bincount(draw, minlength=len(rows)) for draw in draws])
        values.append(statistic(times @ rows))
    values, tail = np.concatenate(values), (1 - level) / 2
    low, high = (np.full(values.shape[1:], np.nan) for _ in range(2))
    for index in np.ndindex(values.shape[1:]):
        known = values[(slice(None), *index)]
        known = known[~np.isnan(known)]
        if known.size:
            low[index], high[index] = np.quantile(known, (tail, 1 - tail))
    return low, high
