"""What is done to images before the model of a run sees them, found out from its config and its training split."""

import dataclasses
import math
from collections.abc import Sequence

from flax import linen as nn
from ml_collections import ConfigDict

from jaxseg.data import Dataset
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.data.resize import Resize
from jaxseg.data.statistics import fit_mean_and_std, fit_window, spread
from jaxseg.models import CROPS, coarsest_stride, pixel_statistics

FINEST, STEPS = 8, 8  # of eval.bucket 0: the least bucket, in pixels, and `Preprocessing.steps`


def fit_preprocessing(config: ConfigDict, dataset: Dataset, model: nn.Module) -> Preprocessing:
    """Returns what is done to images before the model of `config` sees them.

    8-bit RGB images are normalized as the encoder's weights expect it. For others the window, if it is not given, and
    the mean and deviation of every band are fitted to images that are spread evenly over the training split.
    """
    bands, source = dataset.bands, dataset.splits[config.data.train_split]
    if bands.window is None and bands.dtype != "uint8":
        bands = dataclasses.replace(bands, window=fit_window(spread(source), bands))
    statistics = pixel_statistics(model) if bands.is_rgb else fit_mean_and_std(spread(source), bands)
    resize = make_resize(config)
    shapes = [resize(*image.shape[:2]) for image in spread(source, 8)]
    return Preprocessing(
        *statistics,
        bands=bands,
        resize=resize,
        fill=config.eval.fill if config.eval.fill != "auto" else "gray" if _shows_border(config, shapes) else "reflect",
        phase=tuple(config.data.crop) if config.eval.phase == "crop" else (0, 0),
        bucket=config.eval.bucket or max(coarsest_stride(model), FINEST),
        steps=0 if config.eval.bucket else STEPS,
    )


def make_resize(config: ConfigDict) -> Resize:
    """Returns the rule of `config.data.resize`."""
    c = config.data.resize
    return Resize(c.factor, c.short_side, tuple(c.size))


def crop_off_place(config: ConfigDict, model: nn.Module) -> str | None:
    """Returns a sentence if crops of this size shift what the model of `config` says of a pixel; see `CROPS`.

    A map of n features at stride s spans s n pixels with the corners of the image in place, and s (n - 1) + 1 with the
    centers of the corner pixels in place; by as much as the crop differs from that, its far side is off.
    """
    options = config.model.options.to_dict()
    wanted = int(options["align_corners"]) if "align_corners" in options else CROPS.get(config.model.name)
    if wanted is None:
        return None
    stride, crop = coarsest_stride(model), tuple(config.data.crop)
    off = max(abs((stride - 1) * wanted + n - stride * math.ceil(n / stride)) for n in crop)
    if off <= 1:
        return None
    better = tuple(n + (wanted - n) % stride for n in crop)
    return (
        f"config.data.crop={crop} is off the phase of '{config.model.name}', whose crops are multiples of its stride,"
        f" {stride} pixels{', plus 1' if wanted else ''}: at the far side it sees {off} pixels beside what it labels."
        f" Better: config.data.crop={better}; evaluation follows it."
    )


def _shows_border(config: ConfigDict, shapes: Sequence[tuple[int, int]]) -> bool:
    """Whether training shows the model what lies outside of images of these sizes."""
    c, options = config.data, config.augment
    least = min(options.scale) / math.sqrt(options.aspect)
    held = [min(n, canvas) * least for shape in shapes for n, canvas in zip(shape, c.canvas, strict=True)]
    return bool(options.rotate or options.elastic) or any(
        crop > n for crop, n in zip(list(c.crop) * len(shapes), held, strict=True)
    )
