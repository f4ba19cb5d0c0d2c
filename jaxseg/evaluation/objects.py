"""Connected regions of label maps, and how well each was found; NumPy, on the host."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer


def components(label: Integer[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """Returns the number of each pixel's region: pixels of one label that touch at their sides, numbered from 0.

    Runs of equal pixels in a row are joined to those beneath them, by handing the smallest number from one to the
    other until nothing changes.

    >>> components(np.array([[5, 5, 0], [0, 5, 0], [5, 0, 0]])).tolist()
    [[0, 0, 1], [2, 0, 1], [3, 1, 1]]
    """
    starts = np.ones(label.shape, bool)
    starts[:, 1:] = label[:, 1:] != label[:, :-1]
    run = np.cumsum(starts).reshape(label.shape) - 1
    touching = label[1:] == label[:-1]
    upper, lower = np.unique(np.stack([run[:-1][touching], run[1:][touching]]), axis=1)
    root = np.arange(run.max() + 1)
    while True:
        least = np.minimum(root[upper], root[lower])
        joined = root.copy()
        for side in (upper, lower):
            np.minimum.at(joined, side, least)
            np.minimum.at(joined, root[side], least)
        joined = joined[joined]
        if (joined == root).all():
            return np.unique(root[run], return_inverse=True)[1].reshape(label.shape)
        root = joined


class Objects(NamedTuple):
    """The labeled regions of an image, one entry each."""

    label: Int[np.ndarray, "n"]
    size: Int[np.ndarray, "n"]  # pixels
    right: Int[np.ndarray, "n"]  # pixels that are predicted as they are labeled
    iou: Float[np.ndarray, "n"]  # with the predicted region of the same class that fits best; 0 if none overlaps


def find_objects(
    label: Integer[np.ndarray, "h w"], prediction: Integer[np.ndarray, "h w"], *, ignore: int = 255
) -> Objects:
    """Returns the regions of `label` and how well `prediction` has them.

    Args:
      label: class ids; `ignore` may occur and is no region.
      prediction: class ids.
      ignore: pixels that do not count, in neither map.

    >>> objects = find_objects(np.array([[1, 1, 0, 0]]), np.array([[1, 0, 0, 0]]))
    >>> objects.size.tolist(), objects.right.tolist(), objects.iou.round(2).tolist()
    ([2, 2], [1, 2], [0.5, 0.67])
    """
    prediction = np.where(label == ignore, ignore, prediction)
    labeled, predicted = components(label), components(prediction)
    size, size_predicted = np.bincount(labeled.ravel()), np.bincount(predicted.ravel())
    right = np.bincount(labeled.ravel(), weights=(label == prediction).ravel()).astype(int)
    _, first = np.unique(labeled, return_index=True)
    classes, iou = label.ravel()[first], np.zeros(len(size))
    same = label == prediction
    (ours, theirs), shared = np.unique(np.stack([labeled[same], predicted[same]]), axis=1, return_counts=True)
    np.maximum.at(iou, ours, shared / (size[ours] + size_predicted[theirs] - shared))
    counted = classes != ignore
    return Objects(classes[counted], size[counted], right[counted], iou[counted])


def border_pixels(label: Integer[np.ndarray, "h w"], *, ignore: int = 255) -> np.ndarray:
    """Returns, as bool[h, w], the pixels of a class that touch another class at a side.

    >>> border_pixels(np.array([[0, 0, 1, 255]])).tolist()
    [[False, True, True, False]]
    """
    border = np.zeros(label.shape, bool)
    for here, there in (
        ((slice(1, None),), (slice(None, -1),)),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differs = (label[here] != label[there]) & (label[here] != ignore) & (label[there] != ignore)
        border[here] |= differs
        border[there] |= differs
    return border
