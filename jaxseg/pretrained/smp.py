"""Weights from segmentation_models_pytorch (smp) 0.6."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxseg.encoders import create_encoder
from jaxseg.pretrained.convert import convert_encoder
from jaxseg.pretrained.state_dict import StateDict, read_state_dict


def encoder_from_smp(name: str, state_dict: StateDict, *, in_channels: int = 3, **options) -> dict[str, Any]:
    """Converts an encoder of smp (`model.encoder.state_dict()`) to the variables of an encoder.

    Args:
      name: a key of `jaxseg.ENCODERS`, e.g. "resnet34", or "efficientnet_lite0" for smp's
        "tu-tf_efficientnet_lite0".
      state_dict: smp's, or the path of one.
      in_channels: of the pictures; if not 3, the first convolution is adapted as smp does.
      **options: the encoder's, as for `create_encoder`.

    Returns:
      {"params": ..., "batch_stats": ...} of the encoder.
    """
    encoder = create_encoder(name, **options)
    arrays = strip(read_state_dict(state_dict), "model.")
    return convert_encoder(encoder, name, arrays, in_channels=in_channels)


def strip(state_dict: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Takes `prefix` off the names that have it; smp puts "model." before those of an encoder out of timm."""
    return {key.removeprefix(prefix): value for key, value in state_dict.items()}
