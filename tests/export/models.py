"""Small trained models that the tests export."""

from typing import Any

import jax
import numpy as np

from jaxseg.data.preprocessing import Preprocessing
from jaxseg.models import create_model, init
from jaxseg.trained import TrainedModel

COLORS = ((0, 0, 0), (200, 30, 30), (30, 200, 30))
MEAN, STD = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)


def small(
    classes: int = 3, preprocessing: Preprocessing | None = None, dtype: str = "float32", **fields: Any
) -> TrainedModel:
    """A narrow U-Net, whose logits differ from pixel to pixel."""
    seen = preprocessing or Preprocessing(MEAN, STD, bucket=8)
    options = {"in_channels": seen.bands.count, "decoder_channels": (8, 6, 6), "dtype": dtype}
    model = create_model("unet", "plain", num_classes=classes, encoder_options={"widths": (4, 6, 8)}, **options)
    variables = jax.device_get(init(model, jax.random.key(0)))
    labels = max(classes, 2)
    names = tuple("abc"[:labels])
    return TrainedModel(model, variables, names, COLORS[:labels], 255, seen, source="made for tests", **fields)


def random_image(*shape: int, dtype: str = "uint8") -> np.ndarray:
    """Noise over smooth patches."""
    rng = np.random.default_rng(1)
    patches = rng.uniform(0, 200, (-(-shape[0] // 8), -(-shape[1] // 8), shape[2])).repeat(8, 0).repeat(8, 1)
    return (patches[: shape[0], : shape[1]] + rng.uniform(0, 55, shape)).astype(dtype)
