"""Metrics: counted on the device batch by batch, merged exactly on the host, scored once.

The contract, which every entry of `METRICS` keeps. An entry is a function of keyword options, all with defaults, that
returns a `Metric`: what it `needs` and two pure functions.

- `needs` is "predictions" (class ids, int[b, h, w]) or "probabilities" (float[b, h, w, c]; of a softmax they sum to 1,
  of sigmoids each stands by itself).
- `update(predictions | probabilities, labels, *, where, num_classes) -> Tally` counts one batch on the device: labels
  int[b, h, w] in [0, num_classes), `where` bool[b, h, w] is True at valid pixels (None means all). It can be jitted. A
  `Tally` is two dicts of arrays: `sums`, of any shape, which are added up (int32 for
  counts, float32 for other sums), and `images`, [b, …], one row per image, which are concatenated. Invalid pixels
  affect neither, whatever their values; padding is invalid. An image without valid pixels adds nothing to `sums`, and
  has nan or 0 in its row.
- If `sized` is True, `update` takes `sizes=` too, int[b, 2]: the height and width of each image, which lies at the top
  left of its array. It may be None: then the image is the smallest rectangle that holds all valid pixels. Nobody but
  metrics of the image's border needs it, for images whose outermost rows are ignored.
- `merge([tally, …])` adds sums as int64 and float64 on the host and joins rows, `merge_processes(tally)` does it over
  processes. The order of the rows changes no result but by rounding.
- `result(tally) -> dict` of plain Python numbers, by key: a float; a list of one float per class; or a dict of details,
  which is in scores.json but not in tables. Keys are lower case and no two entries share one. On empty
  input, results are nan; no error is raised.

Two policies hold everywhere:

- invalid pixels (`where` is False) affect no score;
- a class for which a score is 0 / 0 is nan in the per-class list and left out of the mean.

A new metric is one file and one line of `METRICS`; tests/contracts/ holds it to the above, and `config.eval.metrics`
can name it.

>>> import numpy as np
>>> metric = METRICS["confusion"]()
>>> batches = [(np.array([[[0, 1]]]), np.array([[[0, 1]]])), (np.array([[[1, 1]]]), np.array([[[0, 1]]]))]
>>> tallies = [metric.update(guess, labels, where=None, num_classes=3) for guess, labels in batches]
>>> metric.result(merge(tallies))["pixel_accuracy"]
0.75
>>> round(metric.result(merge(tallies))["miou"], 4)  # (1/2 + 2/3) / 2: the third class is absent
0.5833

The confusion matrix by itself: `confusion_matrix(predictions, labels, *, num_classes, where) -> int32[C, C]`, rows are
labels, for a batch; add them as int64 on the host; `scores(matrix)`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxseg.checks import UserError, check_options, lookup, suggest
from jaxseg.metrics.boundary_iou import boundary_iou_scores
from jaxseg.metrics.calibration import boundary_calibration_scores, calibration_scores
from jaxseg.metrics.confusion import confusion_matrix, confusion_scores
from jaxseg.metrics.report import format_results, format_table, scores
from jaxseg.metrics.spread import spread_scores
from jaxseg.metrics.surface import boundary_f_scores, surface_scores
from jaxseg.metrics.tally import Metric, Tally, merge, merge_processes
from jaxseg.metrics.thresholds import binary_scores, threshold_counts, threshold_scores

__all__ = [
    "METRICS",
    "Metric",
    "Tally",
    "binary_scores",
    "confusion_matrix",
    "create_metrics",
    "format_results",
    "format_table",
    "merge",
    "merge_processes",
    "scores",
    "threshold_counts",
]

METRICS: dict[str, Callable[..., Metric]] = {
    "confusion": confusion_scores,
    "spread": spread_scores,
    "calibration": calibration_scores,
    "boundary_calibration": boundary_calibration_scores,
    "thresholds": threshold_scores,
    "surface": surface_scores,
    "boundary_f": boundary_f_scores,
    "boundary_iou": boundary_iou_scores,
}


def create_metrics(names: Sequence[str], options: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Metric]:
    """Returns the metrics of `names` with their options, or raises a `UserError` that lists the known names.

    Args:
      names: keys of `METRICS`.
      options: {name: {argument: value}}, for some of them.

    >>> create_metrics(["confusion", "calibration"], {"calibration": {"bins": 10}})["calibration"].needs
    'probabilities'
    >>> create_metrics(["confusoin"])
    Traceback (most recent call last):
    jaxseg.checks.UserError: Unknown metric 'confusoin'. Did you mean 'confusion'? Known: ...
    """
    options = options or {}
    for name in names:
        lookup(METRICS, name, "metric")
    for name, arguments in options.items():
        if name not in names:
            raise UserError(
                f"Options are given for the metric '{name}', which is not asked for. {suggest(name, names)}"
            )
        if not isinstance(arguments, Mapping):
            raise UserError(f"The options of the metric '{name}' must be a mapping of arguments, got {arguments!r}.")
        check_options(METRICS[name], arguments, f"metric '{name}'")
    try:
        return {name: METRICS[name](**options.get(name, {})) for name in names}
    except TypeError as error:
        raise UserError(f"The options of a metric can't be used: {error}") from error
