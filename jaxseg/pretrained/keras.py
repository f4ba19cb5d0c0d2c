"""Weights from Keras Applications."""

from pathlib import Path
from typing import Any

from jaxseg.pretrained.encoder import read_encoder


def encoder_from_keras(name: str, path: str | Path, *, in_channels: int = 3, **options: Any) -> dict[str, Any]:
    """Converts a network of Keras Applications to the variables of an encoder, for images by its `preprocess_input`.

    `load_encoder` takes such a file, too, and makes of it weights for images as the encoder normalizes them.

    Args:
      name: "vgg16", "vgg19", "mobilenet_v2", "densenet121" to "densenet201", or "efficientnet_b0" to "efficientnet_b7";
        give MobileNetV2 and EfficientNet the options padding="tensorflow" and epsilon=1e-3.
      path: of a `.weights.h5` file of Keras 3, or of a `.h5` file of older versions, with or without the classifier.
      in_channels: of the images; if not 3, the first convolution is adapted as smp does.
      **options: the encoder's, as for `create_encoder`.

    Returns:
      {"params": ..., "batch_stats": ...} of the encoder.
    """
    return read_encoder("keras", name, path, in_channels=in_channels, **options).warn().variables
