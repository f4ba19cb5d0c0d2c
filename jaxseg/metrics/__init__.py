"""Metrics: counted on the device batch by batch, merged exactly on the host, scored once.

The contract, which every entry of `METRICS` keeps. An entry is a function of keyword options, all with defaults, that
returns a `Metric`: what it `needs` and two pure functions.

- `needs` is "predictions" (class ids, int[b, h, w]) or "probabilities" (float[b, h, w, c], which sum to 1).
- `update(predictions | probabilities, labels, *, where, num_classes) -> Tally` counts one batch on the device: labels
  int[b, h, w] in [0, num_classes), `where` bool[b, h, w] or None marks the pixels that count. It can be jitted. A
  `Tally` is two dicts of arrays: `sums`, of any shape, which are added up (int32, or float32 for sums of what is no
  count), and `pictures`, [b, …], one row a picture, which are kept apart. A pixel that doesn't count reaches neither,
  whatever stands there; pixels that don't count surround every picture that was padded. A picture with no pixel that
  counts adds nothing to `sums`, and has nan or 0 in its row.
- `merge([tally, …])` adds sums as int64 and float64 on the host and joins rows, `merge_processes(tally)` does it over
  processes. The order of the rows is no part of the result but by rounding and by the seed of a bootstrap.
- `result(tally) -> dict` of plain Python numbers, by key: a float; a list with one float a class; or a dict of details,
  which is in scores.json but in no table. Keys are lower case and no two entries share one. No pixel at all: no error,
  and nan where a score would be 0 / 0.

Two policies hold everywhere:

- ignored pixels (`where` False) are in no cell, hence in no score;
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

from collections.abc import Callable

from jaxseg.metrics.confusion import confusion_matrix, confusion_scores
from jaxseg.metrics.report import format_table, scores
from jaxseg.metrics.tally import Metric, Tally, merge, merge_processes

__all__ = ["METRICS", "Metric", "Tally", "confusion_matrix", "format_table", "merge", "merge_processes", "scores"]

METRICS: dict[str, Callable[..., Metric]] = {
    "confusion": confusion_scores,
}
