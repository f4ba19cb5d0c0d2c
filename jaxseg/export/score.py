"""Scores of exported files on labeled images: what smaller weights cost."""

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxseg.checks import Unreadable, UserError
from jaxseg.data import Dataset
from jaxseg.data.bands import ignore_empty
from jaxseg.export.check import Run
from jaxseg.export.function import Form
from jaxseg.export.golden import answers
from jaxseg.inference.batches import as_stored
from jaxseg.metrics.report import scores
from jaxseg.trained import TrainedModel


def score(
    runs: Mapping[str, Run],
    description: Mapping[str, Any],
    trained: TrainedModel,
    form: Form,
    dataset: Dataset,
    split: str,
) -> dict[str, Any]:
    """Returns the mIoU of functions on a split, and the share of the pixels where all say the same label.

    Args:
      runs: name -> function of a file.
      description: of the files.
      trained: the model.
      form: of the functions; the images must have its size.
      dataset: with the model's classes.
      split: of the data set.
    """
    classes = len(trained.classes)
    matrices = {name: np.zeros((classes, classes), np.int64) for name in runs}
    source, same, pixels, images, unreadable = dataset.splits[split], 0, 0, 0, 0
    for index in range(len(source)):
        try:
            record = source[index]
        except Unreadable:
            unreadable += 1
            continue
        image = as_stored(record["image"], trained.bands)
        check_size(image.shape[:2], form, str(record["name"]))
        batch = np.broadcast_to(image, (1 if "batch" in form.dynamic else form.batch, *image.shape))
        found = [np.asarray(answers(run(np.ascontiguousarray(batch)), description)[0][0]) for run in runs.values()]
        label = ignore_empty(np.asarray(record["label"]), image, trained.bands, dataset.ignore).astype(np.int64)
        where = label != dataset.ignore
        for matrix, labels in zip(matrices.values(), found, strict=True):
            pairs = classes * label[where] + labels[where].astype(np.int64)
            matrix += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        same += int(np.logical_and.reduce([labels == found[0] for labels in found]).sum())
        pixels, images = pixels + label.size, images + 1
    if not all(matrix.any() for matrix in matrices.values()):
        raise UserError(f"No image of the split '{split}' of {dataset.name} reads, or none has a label.")
    return {
        "data": dataset.name,
        "split": split,
        "images": images,
        "unreadable": unreadable,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "miou": {name: float(scores(matrix)["miou"]) for name, matrix in matrices.items()},
        "same_labels": same / pixels,
    }


def check_size(size: tuple[int, int], form: Form, name: str) -> None:
    """Raises a `UserError` where an image has not the size that a file takes."""
    dynamic = "size" in form.dynamic
    if size == form.size or (dynamic and all(n <= most for n, most in zip(size, form.size, strict=True))):
        return
    remedy = "a larger --size" if dynamic else f"--size {size[0]} {size[1]}, or --dynamic size where sizes differ"
    raise UserError(
        f"The image {name} has {size[0]}x{size[1]} pixels (height x width), and the file takes"
        f" {'up to ' if dynamic else ''}{form.size[0]}x{form.size[1]}. Export with {remedy}, or leave out --score."
    )


def told(scored: Mapping[str, Any]) -> str:
    """Returns what `score` found, in a line.

    >>> scored = {"data": "camvid", "split": "val", "images": 2, "unreadable": 0, "same_labels": 0.99}
    >>> told(scored | {"miou": {"float32": 0.7, "int8": 0.69}})
    'camvid val, 2 images: mIoU 0.6900, 0.0100 less than 0.7000 of float32; the same label at 99.000 % of the pixels'
    """
    (exact, first), *others = scored["miou"].items()
    without = f" without {scored['unreadable']} that do not read" if scored["unreadable"] else ""
    start = f"{scored['data']} {scored['split']}, {scored['images']} images{without}: mIoU"
    if not others:
        return f"{start} {first:.4f}"
    found = others[0][1]
    less = f"{abs(first - found):.4f} {'less' if found <= first else 'more'} than {first:.4f} of {exact}"
    return f"{start} {found:.4f}, {less}; the same label at {100 * scored['same_labels']:.3f} % of the pixels"
