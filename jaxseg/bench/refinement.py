"""What refinement gains on random errors: python -m jaxseg.bench.refinement --root DIR --out FILE."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from jaxseg import metrics


def noisy_scores(
    label: Int[Array, "h w"], num_classes: int, *, flipped: float, sure: float, seed: int = 0
) -> Float[Array, "h w c"]:
    """Returns log-probabilities of a network that names a random class for a share of the pixels.

    Args:
      label: class ids; what is no class is taken for random too.
      num_classes: c.
      flipped: share of the pixels whose class is drawn at random, the right one among them.
      sure: the probability that it gives to the class that it names, whether right or wrong.
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
    """Refines `noisy_scores` of labelled pictures, and scores the label maps before and after.

    Args:
      records: {"image": uint8[h, w, 3], "label": int[h, w]}.
      num_classes: of the labels.
      refiners: name -> function (logits [1, h, w, c], images [1, h, w, 3]) -> logits.
      flipped: as for `noisy_scores`.
      sure: as for `noisy_scores`.
      ignore: label of pixels that do not count.

    Returns:
      {name: {"miou", "pixel_accuracy", "seconds" of processor time a picture}}, "before" among them, and the label
      maps of every picture. The first picture does not count in the time: it waits for the compiler.
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
        counts = record["label"] != ignore
        for name, prediction in maps[-1].items():
            pairs = num_classes * record["label"][counts].astype(int) + prediction[counts]
            matrix = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
            matrices[name] = matrices.get(name, 0) + matrix
    found = {}
    for name, matrix in matrices.items():
        scores = metrics.scores(matrix)
        found[name] = {key: float(scores[key]) for key in ("miou", "pixel_accuracy")}
        found[name]["seconds"] = seconds.get(name, 0.0)
    return found, maps


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table for pictures of a folder data set and draws the first of them."""
    import jax
    from PIL import Image, ImageDraw, ImageFont

    from jaxseg import visualize
    from jaxseg.config import default_config
    from jaxseg.data import create_dataset
    from jaxseg.inference.refine import REFINERS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="of a folder data set (docs/data.md)")
    parser.add_argument("--split", default="val")
    parser.add_argument("--pictures", type=int, default=8, help="evenly spread over the split")
    parser.add_argument("--flipped", type=float, default=0.4, help="share of the pixels with a random class")
    parser.add_argument("--sure", type=float, default=0.5, help="probability of the class named")
    parser.add_argument("--out", required=True, help="picture to write")
    args = parser.parse_args(argv)
    data = create_dataset("folder", args.root)
    source = data.splits[args.split]
    records = [source[int(i)] for i in np.linspace(0, len(source) - 1, args.pictures).round()]
    settings = default_config().eval
    refiners = {name: jax.jit(partial(function, **settings[name])) for name, function in REFINERS.items()}
    noise = {"flipped": args.flipped, "sure": args.sure}
    found, maps = refinement_gain(records, data.num_classes, refiners, ignore=data.ignore, **noise)
    for name, row in found.items():
        print(f"{name:8} mIoU {row['miou']:.4f}  right {row['pixel_accuracy']:.4f}  {row['seconds']:.2f} s a picture")
    first = records[0]
    panels = {"picture": first["image"], "label": visualize.colorize(first["label"], data.palette, ignore=data.ignore)}
    panels |= {name: visualize.colorize(label, data.palette) for name, label in maps[0].items()}
    h, w = first["label"].shape
    sheet = Image.new("RGB", (3 * w + 32, 2 * (h + 30)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    order = ("picture", "before", "guided", "label", "crf")
    for name, (column, row) in zip(order, ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1)), strict=True):
        left, top = 8 + column * (w + 8), 26 + row * (h + 30)
        sheet.paste(Image.fromarray(np.ascontiguousarray(panels[name])), (left, top))
        score = f", mIoU {found[name]['miou']:.3f}" if name in found else ""
        draw.text((left, top - 23), f"{name}{score}", (40, 40, 46), font)
    sheet.save(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
