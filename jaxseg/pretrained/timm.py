"""Weights from timm (PyTorch Image Models)."""

from typing import Any

from jaxseg.pretrained.encoder import read_encoder
from jaxseg.pretrained.state_dict import StateDict


def encoder_from_timm(name: str, state_dict: StateDict, *, in_channels: int = 3, **options: Any) -> dict[str, Any]:
    """Converts a timm classifier or feature extractor to the variables of an encoder.

    Args:
      name: a key of `jaxseg.ENCODERS`, e.g. "resnet50", or "efficientnet_lite0" for timm's "tf_efficientnet_lite0".
      state_dict: timm's, or the path of one; entries of its classifier are left out.
      in_channels: of the images; if not 3, the first convolution is adapted as timm and smp do.
      **options: the encoder's, as for `create_encoder`.

    Returns:
      {"params": ..., "batch_stats": ...} of the encoder.
    """
    return read_encoder("timm", name, state_dict, in_channels=in_channels, **options).warn().variables
