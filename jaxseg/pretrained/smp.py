"""Weights from segmentation_models_pytorch (smp) 0.6: encoders and whole models."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn

from jaxseg.checks import UserError, check_options, lookup
from jaxseg.encoders import create_encoder
from jaxseg.models import create_model
from jaxseg.pretrained.convert import SEQUENTIAL, convert_encoder, convert_model
from jaxseg.pretrained.names import smp_encoder
from jaxseg.pretrained.smp_decoders import ARCHITECTURES, Recipe
from jaxseg.pretrained.state_dict import StateDict, read_state_dict

HEAD = (r"^head\.", "segmentation_head.")
# Arguments of every smp model: these must have one of the values given, and these others change no weight.
REQUIRED = {"activation": (None, "identity"), "aux_params": (None,), "decoder_use_norm": ("batchnorm", True)}
WITHOUT_EFFECT = ("encoder_name", "encoder_weights", "classes", "upsampling")
# What older versions called their arguments; smp still takes these names.
FORMERLY = {"decoder_use_batchnorm": "decoder_use_norm", "upscale_mode": "decoder_interpolation"}


def encoder_from_smp(name: str, state_dict: StateDict, *, in_channels: int = 3, **options) -> dict[str, Any]:
    """Converts an encoder of smp (`model.encoder.state_dict()`) to the variables of an encoder.

    Args:
      name: jaxseg's or smp's, e.g. "resnet34", "efficientnet-b0", "tu-tf_efficientnet_lite0"; `smp_encoder` says which
        options of `create_encoder` make it smp's.
      state_dict: smp's, or the path of one.
      in_channels: of the pictures; if not 3, the first convolution is adapted as smp does.
      **options: the encoder's, as for `create_encoder`.

    Returns:
      {"params": ..., "batch_stats": ...} of the encoder.
    """
    arrays = read_state_dict(state_dict)
    origin = smp_encoder(name, by_timm=any(key.startswith("model.") for key in arrays))
    encoder = create_encoder(origin.encoder, **(origin.options | options))
    arrays = {key.removeprefix("model."): value for key, value in arrays.items()}
    return convert_encoder(encoder, origin.encoder, arrays, source=origin.source, in_channels=in_channels)


def from_smp(
    arch: str, encoder: str, state_dict: StateDict, num_classes: int, *, in_channels: int = 3, **arguments
) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuilds a model of smp: the same logits, to float32's rounding, at any picture size.

    Args:
      arch: a key of `ARCHITECTURES`, e.g. "fpn", which is smp's name for it too.
      encoder: of the model, by jaxseg's or smp's name, e.g. "resnet34", "efficientnet-b0".
      state_dict: of the whole model, or the path of one.
      num_classes: smp's `classes`.
      in_channels: of the pictures.
      **arguments: any others that the model was made with, by smp's names and with smp's defaults.

    Returns:
      The model and its variables, {"params": ..., "batch_stats": ...}.
    """
    recipe = _recipe(arch, {FORMERLY.get(name, name): v for name, v in arguments.items()})
    arrays = read_state_dict(state_dict)
    encoder_options = recipe.options.pop("encoder_options", {})
    origin = smp_encoder(encoder, by_timm=any(key.startswith("encoder.model.") for key in arrays))
    encoder_options |= origin.options
    options = recipe.options | {
        name: any(key.startswith(prefix) for key in arrays) for name, prefix in recipe.switches.items()
    }
    model = create_model(arch, origin.encoder, num_classes=num_classes, encoder_options=encoder_options, **options)
    variables = convert_model(
        model,
        origin.encoder,
        {re.sub(r"^encoder\.model\.", "encoder.", key): value for key, value in arrays.items()},
        source=origin.source,
        prefix="encoder.",
        renames=(*SEQUENTIAL, HEAD, *recipe.renames),
        what=f"smp's '{arch}' decoder and head",
        in_channels=in_channels,
        unused=lambda key: re.match(recipe.idle, key) is not None,
    )
    return model, variables


def load_smp(directory: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuilds a model of smp from the folder that its `save_pretrained` wrote, as `from_smp` does.

    Only the folder's `config.json` and `model.safetensors` are read. The encoder's weights are among the latter, so
    the configuration's `encoder_weights`, which smp would first download, are not asked for.

    Args:
      directory: the folder's path.

    Returns:
      The model and its variables, {"params": ..., "batch_stats": ...}.
    """
    folder = Path(directory).expanduser()
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(
                f"There is no file '{folder / name}'. Give a folder that a model's `save_pretrained` of smp wrote."
            )
    config = json.loads((folder / "config.json").read_text())
    for name in ("_model_class", "encoder_name", "classes", "in_channels"):
        if name not in config:
            raise UserError(f"'{folder / 'config.json'}' has no entry '{name}', so it is not one of smp's models.")
    arguments = {name: value for name, value in config.items() if not name.startswith("_")}
    return from_smp(
        config["_model_class"].lower(),
        arguments.pop("encoder_name"),
        folder / "model.safetensors",
        arguments.pop("classes"),
        in_channels=arguments.pop("in_channels"),
        **arguments,
    )


def _recipe(arch: str, arguments: Mapping[str, Any]) -> Recipe:
    """The recipe for smp's arguments, or a `UserError` about the one that has no counterpart."""
    make = lookup(ARCHITECTURES, arch, "smp architecture")
    for name, allowed in REQUIRED.items():
        if name in arguments and arguments[name] not in allowed:
            raise UserError(
                f"smp's {name}={arguments[name]!r} has no counterpart here; expected {allowed[0]!r}."
                " Such a model cannot be converted."
            )
    own = {name: v for name, v in arguments.items() if name not in (*REQUIRED, *WITHOUT_EFFECT)}
    check_options(make, own, f"smp's '{arch}'")
    return make(**own)
