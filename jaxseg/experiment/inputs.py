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
from jaxseg.models import coarsest_stride, pixel_statistics

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


def _shows_border(config: ConfigDict, shapes: Sequence[tuple[int, int]]) -> bool:
    """Whether training shows the model what lies outside of images of these sizes."""
    c, options = config.data, config.augment
    least = min(options.scale) / math.sqrt(options.aspect)
    held = [min(n, canvas) * least for shape in shapes for n, canvas in zip(shape, c.canvas, strict=True)]
    return bool(options.rotate or options.elastic) or any(
        crop > n for crop, n in zip(list(c.crop) * len(shapes), held, strict=True)
    )
