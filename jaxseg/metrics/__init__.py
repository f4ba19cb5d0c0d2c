"""Metrics: a confusion matrix counted on the device, and every score computed from the sum of them.

Contract: `confusion_matrix(predictions, labels, *, num_classes, where) -> int32[C, C]`, rows are labels, for a batch;
add them as int64 on the host; `scores(matrix)` is then exact over all that was added, whatever the batches were.
Two policies hold everywhere:

- ignored pixels (`where` False) are in no cell, hence in no score;
- a class for which a score is 0 / 0 is nan in the per-class list and left out of the mean.

>>> import numpy as np
>>> total = np.zeros((3, 3), np.int64)
>>> for predictions, labels in [(np.array([[0, 1]]), np.array([[0, 1]])), (np.array([[1, 1]]), np.array([[0, 1]]))]:
...     total += np.asarray(confusion_matrix(predictions, labels, num_classes=3))
>>> round(scores(total)["miou"], 4)  # (1/2 + 2/3) / 2: the third class is absent
0.5833
"""

from jaxseg.metrics.confusion import confusion_matrix
from jaxseg.metrics.report import format_table, scores

__all__ = ["confusion_matrix", "format_table", "scores"]
