"""Benchmark of refinement on random errors: what `jaxseg refinement` measures."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from jaxseg import metrics
from jaxseg.files import atomic_path
from jaxseg.metrics.arrays import count_pairs


def noisy_scores(
    label: Integer[np.ndarray, "h w"], num_classes: int, *, flipped: float, sure: float, seed: int = 0
) -> Float[np.ndarray, "h w c"]:
    """Returns log-probabilities, float[h, w, c], of a made-up network that is wrong at random pixels.

    Args:
      label: class ids, int[h, w]; a pixel that has no class gets a random one.
      num_classes: c.
      flipped: share of the pixels, in [0, 1], whose class is drawn at random; it may be the right one.
      sure: the probability of the class that is named, in (0, 1), whether right or wrong.
      seed: of the draws.

    >>> scores = noisy_scores(np.array([[1]]), 3, flipped=0.0, sure=0.5)
    >>> np.exp(scores).round(2).tolist()
    [[[0.25, 0.5, 0.25]]]
    """
    random = np.random.default_rng(seed)
    drawn = random.integers(0, num_classes, label.shape)
    named = np.where((random.random(label.shape) < flipped) | (label >= num_classes), drawn, label)
    named = named[..., None] == np.arange(num_classes)
    return np.where(named, np.log(sure), np.log((1 - sure) / (num_classes - 1))).astype(np.float32)


def refinement_gain(
    records: Sequence[Mapping[str, Any]],
    num_classes: int,
    refiners: Mapping[str, Callable],
    *,
    flipped: float,
    sure: float,
    ignore: int = 255,
) -> tuple[dict[str, dict[str, float]], list[dict[str, np.ndarray]]]:
    """Refines `noisy_scores` of labeled images, and scores the label maps before and after.

    Args:
      records: {"image": uint8[h, w, 3], "label": int[h, w]}.
      num_classes: of the labels.
      refiners: name -> function (logits [1, h, w, c], images [1, h, w, 3]) -> logits.
      flipped: as for `noisy_scores`.
      sure: as for `noisy_scores`.
      ignore: the ignore label.

    Returns:
      {name: {"miou", "pixel_accuracy", "seconds" of processor time per image}}, "before" among them, and the label
      maps of every image. The first image does not count in the time: it waits for the compiler.
    """
    matrices, seconds, maps = {}, {}, []
    for i, record in enumerate(records):
        scores = noisy_scores(record["label"], num_classes, flipped=flipped, sure=sure, seed=i)
        maps.append({"before": scores.argmax(-1)})
        for name, refine in refiners.items():
            start = time.process_time()
            maps[-1][name] = np.asarray(refine(scores[None], np.array(record["image"])[None]))[0].argmax(-1)
            if i:
                seconds[name] = seconds.get(name, 0) + (time.process_time() - start) / (len(records) - 1)
        for name, prediction in maps[-1].items():
            matrix = count_pairs(record["label"], prediction, num_classes, ignore=ignore)
            matrices[name] = matrices.get(name, 0) + matrix
    found = {}
    for name, matrix in matrices.items():
        scores = metrics.scores(matrix)
        found[name] = {key: float(scores[key]) for key in ("miou", "pixel_accuracy")}
        found[name]["seconds"] = seconds.get(name, 0.0)
    return found, maps


def sheet(
    record: Mapping[str, Any],
    maps: Mapping[str, np.ndarray],
    found: Mapping[str, Mapping[str, float]],
    palette: np.ndarray,
    ignore: int,
    path: str | Path,
) -> None:
    """Writes a PNG of an image, its label and its label maps before and after refinement, side by side.

    Args:
      record: {"image", "label"}.
      maps: name -> label map, "before", "guided" and "crf"; the first result's second half of `refinement_gain`.
      found: name -> scores, the first half.
      palette: uint8[classes, 3].
      ignore: the label that is drawn in gray.
      path: the file to write.
    """
    from PIL import Image, ImageDraw, ImageFont

    from jaxseg.visualize import colorize

    panels = {"image": record["image"], "label": colorize(record["label"], palette, ignore=ignore)}
    panels |= {name: colorize(label, palette) for name, label in maps.items()}
    h, w = record["label"].shape
    drawn = Image.new("RGB", (3 * w + 32, 2 * (h + 30)), "white")
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(18)
    order = ("image", "before", "guided", "label", "crf")
    for name, (column, row) in zip(order, ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1)), strict=True):
        left, top = 8 + column * (w + 8), 26 + row * (h + 30)
        drawn.paste(Image.fromarray(np.ascontiguousarray(panels[name])), (left, top))
        score = f", mIoU {found[name]['miou']:.3f}" if name in found else ""
        draw.text((left, top - 23), f"{name}{score}", (40, 40, 46), font)
    with atomic_path(path) as part:
        drawn.save(part)
