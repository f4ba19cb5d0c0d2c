"""Weights from segmentation_models_pytorch (smp) 0.6: encoders and whole models."""

import re
from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from jaxseg.checks import UserError, check_options, lookup
from jaxseg.encoders import ENCODERS, create_encoder
from jaxseg.models import create_model
from jaxseg.pretrained.convert import SEQUENTIAL, convert_encoder, convert_model
from jaxseg.pretrained.smp_decoders import ARCHITECTURES, Recipe
from jaxseg.pretrained.state_dict import StateDict, read_state_dict

HEAD = (r"^head\.", "segmentation_head.")
# Arguments of every smp model: these must have one of the values given, and these others change no weight.
REQUIRED = {"activation": (None, "identity"), "aux_params": (None,), "decoder_use_norm": ("batchnorm", True)}
WITHOUT_EFFECT = ("encoder_name", "encoder_weights", "classes", "upsampling")


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
    arrays = {key.removeprefix("model."): value for key, value in read_state_dict(state_dict).items()}
    return convert_encoder(encoder, name, arrays, source="smp", in_channels=in_channels)


def from_smp(
    arch: str, encoder: str, state_dict: StateDict, num_classes: int, *, in_channels: int = 3, **arguments
) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuilds a model of smp: the same logits, to float32's rounding, at any picture size.

    Args:
      arch: a key of `ARCHITECTURES`, e.g. "fpn", which is smp's name for it too.
      encoder: of the model, by jaxseg's or smp's name, e.g. "resnet34", "tu-tf_efficientnet_lite0".
      state_dict: of the whole model, or the path of one.
      num_classes: smp's `classes`.
      in_channels: of the pictures.
      **arguments: any others that the model was made with, by smp's names and with smp's defaults.

    Returns:
      The model and its variables, {"params": ..., "batch_stats": ...}.
    """
    recipe = _recipe(arch, arguments)
    arrays = read_state_dict(state_dict)
    encoder_options = recipe.options.pop("encoder_options", {})
    source = "timm" if any(key.startswith("encoder.model.") for key in arrays) else "smp"
    encoder = encoder.removeprefix("tu-").removeprefix("tf_")
    made = lookup(ENCODERS, encoder, "encoder")
    encoder_options |= getattr(getattr(made, "func", made), f"{source}_options", {})
    options = recipe.options | {
        name: any(key.startswith(prefix) for key in arrays) for name, prefix in recipe.switches.items()
    }
    model = create_model(arch, encoder, num_classes=num_classes, encoder_options=encoder_options, **options)
    variables = convert_model(
        model,
        encoder,
        {re.sub(r"^encoder\.model\.", "encoder.", key): value for key, value in arrays.items()},
        source=source,
        prefix="encoder.",
        renames=(*SEQUENTIAL, HEAD, *recipe.renames),
        what=f"smp's '{arch}' decoder and head",
        in_channels=in_channels,
        unused=lambda key: re.match(recipe.idle, key) is not None,
    )
    return model, variables


def _recipe(arch: str, arguments: Mapping[str, Any]) -> Recipe:
    """The recipe for smp's arguments, or a `UserError` about the one that has no counterpart."""
    make = lookup(ARCHITECTURES, arch, "smp architecture")
    for name, allowed in REQUIRED.items():
        if arguments.get(name, allowed[0]) not in allowed:
            raise UserError(
                f"smp's {name}={arguments[name]!r} has no counterpart here; expected {allowed[0]!r}."
                " Such a model cannot be converted."
            )
    own = {name: v for name, v in arguments.items() if name not in (*REQUIRED, *WITHOUT_EFFECT)}
    check_options(make, own, f"smp's '{arch}'")
    return make(**own)
