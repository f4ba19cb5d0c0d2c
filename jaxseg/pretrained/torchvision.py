"""Weights from torchvision: classifiers as encoders, and its DeepLabV3."""

from typing import Any

from flax import linen as nn

from jaxseg.checks import UserError, lookup
from jaxseg.encoders import create_encoder
from jaxseg.models import create_model
from jaxseg.pretrained.convert import SEQUENTIAL, aspp_renames, convert_encoder, convert_model
from jaxseg.pretrained.state_dict import StateDict, read_state_dict

ENCODERS = {"deeplabv3_resnet50": "resnet50", "deeplabv3_resnet101": "resnet101"}
RATES = (12, 24, 36)
RENAMES = (
    *SEQUENTIAL,
    *aspp_renames(RATES),
    (r"^decoder\.aspp\.", "classifier.0."),
    (r"^decoder\.conv\.0$", "classifier.1"),
    (r"^decoder\.conv\.1$", "classifier.2"),
    (r"^head\.0$", "classifier.4"),
    (r"^auxiliary\.conv\.", "aux_classifier."),
    (r"^auxiliary\.head\.0$", "aux_classifier.4"),
)


def encoder_from_torchvision(name: str, state_dict: StateDict, *, in_channels: int = 3, **options) -> dict[str, Any]:
    """Converts a torchvision classifier to the variables of an encoder.

    Args:
      name: a key of `jaxseg.ENCODERS`, e.g. "resnet50".
      state_dict: torchvision's, or the path of one; entries of its classifier are left out.
      in_channels: of the pictures; if not 3, the first convolution is adapted as smp does.
      **options: the encoder's, as for `create_encoder`.

    Returns:
      {"params": ..., "batch_stats": ...} of the encoder.
    """
    encoder = create_encoder(name, **options)
    return convert_encoder(encoder, name, read_state_dict(state_dict), source="torchvision", in_channels=in_channels)


def from_torchvision(name: str, state_dict: StateDict) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuilds a segmentation model of torchvision: the same logits, to float32's rounding.

    Args:
      name: torchvision's name of it, a key of `ENCODERS` here.
      state_dict: of the whole model, or the path of one. It tells the number of classes, and whether there is
        an auxiliary classifier ("auxiliary" of the outputs).

    Returns:
      The model and its variables, {"params": ..., "batch_stats": ...}.
    """
    encoder = lookup(ENCODERS, name, "torchvision model")
    arrays = read_state_dict(state_dict)
    if "classifier.4.bias" not in arrays:
        raise UserError(f"The state dict is not of torchvision's '{name}': it has no entry 'classifier.4.bias'.")
    model = create_model(
        "deeplabv3",
        encoder,
        num_classes=arrays["classifier.4.bias"].size,
        output_stride=8,
        encoder_options={"dilate_first": False},
        rates=RATES,
        align_corners=False,
        auxiliary="aux_classifier.4.bias" in arrays,
    )
    what = f"torchvision's '{name}' decoder and head"
    return model, convert_model(
        model, encoder, arrays, source="torchvision", prefix="backbone.", renames=RENAMES, what=what
    )
