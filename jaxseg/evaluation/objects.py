"""Connected regions of label maps, and how well each was predicted; on the host."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer


def components(label: Integer[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """Returns the number of each pixel's region: pixels of one label that touch at their sides.

    Regions are numbered from 0, in the order of their first pixels.

    >>> components(np.array([[5, 5, 0], [0, 5, 0], [5, 0, 0]])).tolist()
    [[0, 0, 1], [2, 0, 1], [3, 1, 1]]
    """
    from scipy import ndimage

    region, count = np.empty(label.shape, np.int64), 0
    for value in np.unique(label):
        mask = label == value
        numbers, regions = ndimage.label(mask)
        region[mask] = numbers[mask] + count
        count += regions
    _, first, index = np.unique(region, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[index].reshape(label.shape)


class Objects(NamedTuple):
    """The labeled regions of an image, one entry each."""

    label: Int[np.ndarray, " n"]
    size: Int[np.ndarray, " n"]  # pixels
    right: Int[np.ndarray, " n"]  # pixels that are predicted as they are labeled
    iou: Float[np.ndarray, " n"]  # with the predicted region of the same class that fits best; 0 if none overlaps


def find_objects(
    label: Integer[np.ndarray, "h w"], prediction: Integer[np.ndarray, "h w"], *, ignore: int = 255
) -> Objects:
    """Returns the regions of `label` and how well `prediction` has them.

    Args:
      label: class ids; `ignore` may occur and is no region.
      prediction: class ids.
      ignore: label of pixels that are left out of both maps.

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
