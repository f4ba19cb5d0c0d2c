"""Weights from timm (PyTorch Image Models)."""

from typing import Any

from jaxseg.encoders import create_encoder
from jaxseg.pretrained.convert import convert_encoder
from jaxseg.pretrained.state_dict import StateDict, read_state_dict


def encoder_from_timm(name: str, state_dict: StateDict, *, in_channels: int = 3, **options) -> dict[str, Any]:
    """Converts a timm classifier or feature extractor to the variables of an encoder.

    Args:
      name: a key of `jaxseg.ENCODERS`, e.g. "resnet50", or "efficientnet_lite0" for timm's
      "tf_efficientnet_lite0". state_dict: timm's, or the path of one; entries of its classifier are left out.
      in_channels: of the pictures; if not 3, the first convolution is adapted as timm and smp do. **options:
      the encoder's, as for `create_encoder`.

    Returns:
      {"params": ..., "batch_stats": ...} of the encoder.
    """
    encoder = create_encoder(name, **options)
    return convert_encoder(encoder, name, read_state_dict(state_dict), source="timm", in_channels=in_channels)
