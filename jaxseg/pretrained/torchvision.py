"""Weights from torchvision: classifiers as encoders, and its segmentation models."""

import re
from typing import Any, NamedTuple

from flax import linen as nn

from jaxseg.checks import UserError, lookup
from jaxseg.encoders import create_encoder
from jaxseg.models import create_model
from jaxseg.pretrained.convert import SEQUENTIAL, Renames, aspp_renames, convert_encoder, convert_model
from jaxseg.pretrained.state_dict import StateDict, read_state_dict


class Recipe(NamedTuple):
    """How a segmentation model of torchvision is made here."""

    architecture: str  # a key of `MODELS`
    encoder: str  # a key of `ENCODERS`
    options: dict[str, Any]  # further arguments of `create_model`
    renames: Renames  # from a module's path here to its name there, after SEQUENTIAL
    scores: str  # its layer that has a bias for every class


RATES = (12, 24, 36)
AUXILIARY = ((r"^auxiliary\.conv\.", "aux_classifier."), (r"^auxiliary\.head\.0$", "aux_classifier.4"))
DEEPLABV3 = (
    *aspp_renames(RATES),
    (r"^decoder\.aspp\.", "classifier.0."),
    (r"^decoder\.conv\.0$", "classifier.1"),
    (r"^decoder\.conv\.1$", "classifier.2"),
    (r"^head\.0$", "classifier.4"),
    *AUXILIARY,
)
FCN = ((r"^head\.conv\.", "classifier."), (r"^head\.head\.0$", "classifier.4"), *AUXILIARY)
LRASPP = (
    (r"^head\.project\.", "classifier.cbr."),
    (r"^head\.weigh$", "classifier.scale.1"),
    (r"^head\.deep$", "classifier.high_classifier"),
    (r"^head\.fine$", "classifier.low_classifier"),
)
RESNET = {"output_stride": 8, "encoder_options": {"dilate_first": False}}

MOBILENET = {"output_stride": 16, "encoder_options": {"early_levels": ("c1", "c2", "c3", "c4")}}


def deeplabv3(encoder: str, **options) -> Recipe:
    """How torchvision's DeepLabV3 is made here on `encoder`."""
    return Recipe("deeplabv3", encoder, {"rates": RATES, "align_corners": False, **options}, DEEPLABV3, "classifier.4")


MODELS = {
    "fcn_resnet50": Recipe("fcn", "resnet50", RESNET, FCN, "classifier.4"),
    "fcn_resnet101": Recipe("fcn", "resnet101", RESNET, FCN, "classifier.4"),
    "deeplabv3_resnet50": deeplabv3("resnet50", **RESNET),
    "deeplabv3_resnet101": deeplabv3("resnet101", **RESNET),
    "deeplabv3_mobilenet_v3_large": deeplabv3("mobilenet_v3_large", auxiliary_level="c3", **MOBILENET),
    "lraspp_mobilenet_v3_large": Recipe("lraspp", "mobilenet_v3_large", MOBILENET, LRASPP, "classifier.low_classifier"),
}


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
      name: torchvision's name of it, a key of `MODELS` here.
      state_dict: of the whole model, or the path of one. It tells the number of classes, and whether there is
        an auxiliary classifier ("auxiliary" of the outputs).

    Returns:
      The model and its variables, {"params": ..., "batch_stats": ...}.
    """
    recipe = lookup(MODELS, name, "torchvision model")
    arrays = read_state_dict(state_dict)
    scores = f"{recipe.scores}.bias"
    if scores not in arrays:
        raise UserError(f"The state dict is not of torchvision's '{name}': it has no entry '{scores}'.")
    auxiliary = {"auxiliary": True} if "aux_classifier.4.bias" in arrays else {}
    model = create_model(
        recipe.architecture, recipe.encoder, num_classes=arrays[scores].size, **recipe.options, **auxiliary
    )
    # an encoder that is one long Sequential lacks its name there
    arrays = {re.sub(r"^backbone\.(?=\d)", "backbone.features.", key): value for key, value in arrays.items()}
    return model, convert_model(
        model,
        recipe.encoder,
        arrays,
        source="torchvision",
        prefix="backbone.",
        renames=(*SEQUENTIAL, *recipe.renames),
        what=f"torchvision's '{name}' decoder and head",
    )
