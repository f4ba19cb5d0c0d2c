"""Error survey: errors per image, per class, by distance from a border and by size of the object."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
from jaxtyping import Bool, Int, Integer

from jaxseg.data.dataset import Source
from jaxseg.evaluation.objects import border_pixels, find_objects
from jaxseg.evaluation.readable import Readable
from jaxseg.metrics.arrays import count_pairs
from jaxseg.ops.distance import distance_transform

SIZES = (16, 64, 256, 1024, 4096, 16384, 65536)  # pixels of an object: the bins' bounds
DISTANCES = (1, 2, 3, 5, 9, 17, 33)  # pixels to the nearest border pixel: the bins' bounds
BATCH = 8  # images predicted at once

_distance = jax.jit(distance_transform)


@dataclasses.dataclass
class Survey:
    """Counts of errors; rows of matrices are labels, columns predictions."""

    matrix: Int[np.ndarray, "c c"]
    example: Int[np.ndarray, "c c"]  # the image with most pixels of each pair, by index
    errors: list[float]  # of each image, the share of wrong pixels; nan where all are ignored, or it does not read
    names: list[str]
    objects: np.ndarray  # float64[bins, 4]: objects, their pixels, wrong ones, sum of IoU
    missed: np.ndarray  # int64[bins]: objects less than half of whose pixels are right
    distances: np.ndarray  # int64[bins, 2]: pixels, wrong ones
    unreadable: list[str] = dataclasses.field(default_factory=list)  # why, of each image that was left out


def survey(
    predict: Callable[[Sequence[np.ndarray]], Sequence[Int[np.ndarray, "h w"]]],
    source: Source,
    num_classes: int,
    *,
    ignore: int = 255,
    strict: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Survey:
    """Predicts all images of a source and counts the errors by class, border distance and object size.

    Args:
      predict: images uint8[h, w, 3] -> label maps.
      source: records of "image", "label" and "name".
      num_classes: of the labels.
      ignore: the ignore label.
      strict: whether an image that does not read raises its `UserError`. It is else left out.
      progress: wraps the iterator over batches, to draw a progress bar.
    """
    shape = (num_classes, num_classes)
    found = Survey(
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        [],
        [],
        np.zeros((len(SIZES) + 1, 4)),
        np.zeros(len(SIZES) + 1, np.int64),
        np.zeros((len(DISTANCES) + 1, 2), np.int64),
    )
    most = np.zeros(shape, np.int64)
    source = source if strict else Readable(source)
    for start in progress(range(0, len(source), BATCH)):
        records = [source[i] for i in range(start, min(start + BATCH, len(source)))]
        read = [record for record in records if "unreadable" not in record]
        predictions = iter(predict([record["image"] for record in read]) if read else ())
        for i, record in enumerate(records):
            if "unreadable" in record:
                found.unreadable.append(record["unreadable"])
                found.errors.append(float("nan"))
                found.names.append("")
                continue
            prediction = next(predictions)
            label = np.asarray(record["label"]).astype(np.int64)
            matrix = _add(found, label, np.asarray(prediction), ignore)
            found.example[matrix > most] = start + i
            most = np.maximum(most, matrix)
            found.names.append(record["name"])
    return found


def _add(
    found: Survey, label: Int[np.ndarray, "h w"], prediction: Integer[np.ndarray, "h w"], ignore: int
) -> Int[np.ndarray, "c c"]:
    """Counts one image and returns its matrix."""
    counted, wrong = label != ignore, (label != prediction) & (label != ignore)
    matrix = count_pairs(label, prediction, len(found.matrix), ignore=ignore)
    found.matrix += matrix
    found.errors.append(float(wrong.sum() / counted.sum()) if counted.any() else float("nan"))
    objects = find_objects(label, prediction, ignore=ignore)
    bins = np.digitize(objects.size, SIZES)
    columns = (np.ones(len(bins)), objects.size, objects.size - objects.right, objects.iou)
    for column, values in enumerate(columns):
        found.objects[:, column] += np.bincount(bins, weights=values, minlength=len(found.objects))
    found.missed += np.bincount(bins[2 * objects.right < objects.size], minlength=len(found.missed))
    border = border_pixels(label, ignore=ignore)
    if border.any():
        distances = np.digitize(border_distance(border)[counted], DISTANCES)
        for column, weights in enumerate((np.ones(counted.sum()), wrong[counted])):
            counts = np.bincount(distances, weights=weights, minlength=len(found.distances))
            found.distances[:, column] += counts.astype(np.int64)
    return matrix


def border_distance(border: Bool[np.ndarray, "h w"], bucket: int = 64) -> np.ndarray:
    """Returns the distance in pixels of every pixel to the nearest border pixel, float32[h, w].

    Args:
      border: the border pixels, at least one.
      bucket: images are padded to a multiple of it, so that few sizes are compiled.

    >>> border_distance(np.array([[True, False, False]])).tolist()
    [[0.0, 1.0, 2.0]]
    """
    h, w = border.shape
    height, width = (-(-n // bucket) * bucket for n in (h, w))
    return np.asarray(_distance(~np.pad(border, ((0, height - h), (0, width - w)))))[:h, :w]


def pairs(matrix: Int[np.ndarray, "c c"], count: int) -> list[tuple[int, int]]:
    """Returns the `count` pairs (label, prediction) that are confused most, by pixels.

    >>> pairs(np.array([[9, 1, 0], [3, 9, 0], [0, 0, 9]]), 2)
    [(1, 0), (0, 1)]
    """
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    return [divmod(int(i), len(matrix)) for i in order if wrong.ravel()[i]]
