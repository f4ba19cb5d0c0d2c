"""Weights from torchvision: classifiers as encoders, and its segmentation models."""

import re
from typing import Any

from flax import linen as nn

from jaxseg.checks import UserError, lookup
from jaxseg.models import create_model
from jaxseg.pretrained.convert import convert_model
from jaxseg.pretrained.encoder import read_encoder
from jaxseg.pretrained.imported import Imported
from jaxseg.pretrained.names import TORCHVISION_MODELS
from jaxseg.pretrained.names.recipe import SEQUENTIAL
from jaxseg.pretrained.state_dict import StateDict, read_entries
from jaxseg.pretrained.wrapping import drop_prefix, find_prefix


def encoder_from_torchvision(
    name: str, state_dict: StateDict, *, in_channels: int = 3, **options: Any
) -> dict[str, Any]:
    """Converts a torchvision classifier to the variables of an encoder.

    Args:
      name: a key of `jaxseg.ENCODERS`, e.g. "resnet50".
      state_dict: torchvision's, or the path of one; entries of its classifier are left out.
      in_channels: of the images; if not 3, the first convolution is adapted as smp does.
      **options: the encoder's, as for `create_encoder`.

    Returns:
      {"params": ..., "batch_stats": ...} of the encoder.
    """
    return read_encoder("torchvision", name, state_dict, in_channels=in_channels, **options).warn().variables


def from_torchvision(name: str, state_dict: StateDict, *, in_channels: int = 3) -> tuple[nn.Module, dict[str, Any]]:
    """Makes the same model as a segmentation model of torchvision. The logits are equal up to float32's rounding.

    Args:
      name: torchvision's name of the model, in upper or lower case, e.g. "deeplabv3_resnet50".
      state_dict: of the whole model, or the path of one. The number of classes, and whether there is an auxiliary
        classifier (the output "auxiliary"), are read from it.
      in_channels: of the images.

    Returns:
      The model and its variables, {"params": ..., "batch_stats": ...}.
    """
    imported = read_torchvision(name, state_dict, in_channels=in_channels).warn()
    return imported.module, imported.variables


def read_torchvision(name: str, state_dict: StateDict, *, in_channels: int = 3) -> Imported:
    """Makes the model as `from_torchvision` does, and also returns its channels and the notes on the file."""
    recipe = lookup(TORCHVISION_MODELS, name.lower(), "torchvision model")
    entries = read_entries(state_dict)
    scores = f"{recipe.scores}.bias"
    entries = drop_prefix(entries, find_prefix(entries.arrays.keys(), scores)[0])
    if scores not in entries.arrays:
        raise UserError(f"The state dict is not of torchvision's '{name}': it has no entry '{scores}'.")
    auxiliary = {"auxiliary": True} if "aux_classifier.4.bias" in entries.arrays else {}
    classes = entries.arrays[scores].size
    model = create_model(recipe.architecture, recipe.encoder, num_classes=classes, **recipe.options, **auxiliary)
    # an encoder that is one long Sequential lacks its name there
    arrays = {re.sub(r"^backbone\.(?=\d)", "backbone.features.", key): v for key, v in entries.arrays.items()}
    variables = convert_model(
        model,
        recipe.encoder,
        arrays,
        library="torchvision",
        prefix="backbone.",
        renames=(*SEQUENTIAL, *recipe.renames),
        what=f"torchvision's '{name}' decoder and head",
        in_channels=in_channels,
    )
    activation = "sigmoid" if classes == 1 else "softmax"
    return Imported(model, variables, in_channels, activation, bucket=1, notes=entries.notes)  # images as they are
