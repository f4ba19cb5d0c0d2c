"""Weights from segmentation_models_pytorch (smp) 0.6: encoders and whole models."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn

from jaxseg.checks import UserError, check_options, lookup
from jaxseg.files import Fields, is_text, is_whole, read_json
from jaxseg.models import create_model
from jaxseg.pretrained.convert import convert_model
from jaxseg.pretrained.described import check_values, making
from jaxseg.pretrained.encoder import OF_TIMM, read_encoder
from jaxseg.pretrained.imported import Imported
from jaxseg.pretrained.matching import check_finite
from jaxseg.pretrained.names import SMP_MODELS
from jaxseg.pretrained.names.origin import smp_encoder
from jaxseg.pretrained.names.recipe import SEQUENTIAL, Recipe
from jaxseg.pretrained.state_dict import StateDict, read_entries, read_safetensors
from jaxseg.pretrained.wrapping import Entries, drop_compiled, drop_prefix, find_prefix

HEAD = (r"^head\.", "segmentation_head.")
SCORES = "segmentation_head.0.bias"  # one for every class
# Arguments of every smp model that change no weight.
WITHOUT_EFFECT = ("encoder_name", "encoder_weights", "classes", "aux_params", "activation", "decoder_use_norm")
# What older versions called their arguments; smp still takes these names.
FORMERLY = {
    "decoder_use_batchnorm": "decoder_use_norm",
    "psp_use_batchnorm": "decoder_use_norm",
    "upscale_mode": "decoder_interpolation",
}
ACTIVATIONS = {"sigmoid": "sigmoid", "softmax": "softmax", "softmax2d": "softmax", "logsoftmax": "softmax"}
BATCHNORM = {"eps": 1e-5, "momentum": 0.1, "affine": True, "track_running_stats": True}  # PyTorch's defaults


def encoder_from_smp(name: str, state_dict: StateDict, *, in_channels: int = 3, **options: Any) -> dict[str, Any]:
    """Converts an encoder of smp (`model.encoder.state_dict()`) to the variables of an encoder.

    Args:
      name: jaxseg's or smp's, e.g. "resnet34", "efficientnet-b0", "tu-tf_efficientnet_lite0"; `smp_encoder` says which
        options of `create_encoder` make it smp's.
      state_dict: smp's, or the path of one.
      in_channels: of the images; if not 3, the first convolution is adapted as smp does.
      **options: the encoder's, as for `create_encoder`.

    Returns:
      {"params": ..., "batch_stats": ...} of the encoder.
    """
    return read_encoder("smp", name, state_dict, in_channels=in_channels, **options).warn().variables


def from_smp(
    arch: str,
    encoder: str,
    state_dict: StateDict,
    num_classes: int | None = None,
    *,
    in_channels: int = 3,
    **arguments: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Makes the same model as one of smp, with its weights. The logits are equal up to float32's rounding.

    Args:
      arch: smp's name of the architecture, in upper or lower case, e.g. "fpn", "DeepLabV3Plus".
      encoder: its name in jaxseg or in smp, e.g. "resnet34", "efficientnet-b0".
      state_dict: of the whole model; or the path of one, or of a trainer's checkpoint that contains one.
      num_classes: smp's `classes`; None is the number of classes of the head in `state_dict`.
      in_channels: of the images.
      **arguments: the other arguments that the model was made with, by smp's names; the defaults are smp's. The logits
        here are those before smp's `activation`.

    Returns:
      The model and its variables, {"params": ..., "batch_stats": ...}.
    """
    imported = read_smp(arch, encoder, state_dict, num_classes, in_channels=in_channels, **arguments).warn()
    return imported.module, imported.variables


def read_smp(
    arch: str,
    encoder: str,
    state_dict: StateDict | Entries,
    num_classes: int | None = None,
    *,
    in_channels: int = 3,
    **arguments: Any,
) -> Imported:
    """Makes the model as `from_smp` does, and also returns its activation, its channels and the notes on the file."""
    arch = arch.lower()
    arguments = _renamed(arguments)
    recipe = _recipe(arch, arguments)
    entries = read_entries(state_dict)
    entries = drop_prefix(entries, find_prefix(entries.arrays.keys(), SCORES)[0])
    arrays = entries.arrays
    if num_classes is None:
        if SCORES not in arrays:
            raise UserError(f"The state dict is not of a model of smp: it has no entry '{SCORES}'.")
        num_classes = arrays[SCORES].size
    activation = smp_activation(arguments.get("activation"), num_classes)
    encoder_options = recipe.options.pop("encoder_options", {})
    origin = smp_encoder(encoder, by_timm=any(OF_TIMM.match(key) for key in arrays))
    encoder_options |= origin.options
    options = recipe.options | {
        name: any(key.startswith(prefix) for key in arrays) for name, prefix in recipe.switches.items()
    }
    model = create_model(arch, origin.encoder, num_classes=num_classes, encoder_options=encoder_options, **options)
    variables = convert_model(
        model,
        origin.encoder,
        {OF_TIMM.sub(r"\1", key): value for key, value in arrays.items()},
        library=origin.library,
        prefix="encoder.",
        renames=(*SEQUENTIAL, HEAD, *recipe.renames),
        what=f"smp's '{arch}' decoder and head",
        in_channels=in_channels,
        unused=lambda key: re.match(recipe.idle, key) is not None,
    )
    return Imported(model, variables, in_channels, activation, notes=entries.notes)


def load_smp(directory: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Makes a model of smp from the folder that its `save_pretrained` wrote, as `from_smp` does.

    Only the folder's `config.json` and `model.safetensors` are read. Nothing is downloaded, whatever `encoder_weights`
    the config names, as the encoder's weights are in the file.

    Args:
      directory: the folder's path.

    Returns:
      The model and its variables, {"params": ..., "batch_stats": ...}.
    """
    imported = read_smp_folder(directory).warn()
    return imported.module, imported.variables


def read_smp_folder(directory: str | Path) -> Imported:
    """Makes the model as `load_smp` does, and also returns its activation, its channels and the notes on the file."""
    folder = Path(directory).expanduser()
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise UserError(
                f"There is no file '{folder / name}'. Give a folder that a model's `save_pretrained` of smp wrote."
            )
    path = folder / "config.json"
    config = read_json(path)
    for name in ("_model_class", "encoder_name", "classes", "in_channels"):
        if name not in config:
            raise UserError(f"'{path}' has no entry '{name}', so it is not one of smp's models.")
    check_values({name: value for name, value in config.items() if not name.startswith("_")}, path, "config")
    fields = Fields(config, path, "Copy the folder again.")
    fields.take("_model_class", is_text, "the name of a model of smp")
    fields.take("in_channels", is_whole(1, 1024), "a whole number from 1 to 1024")
    arguments = {name: value for name, value in config.items() if not name.startswith("_")}
    entries = Entries(read_safetensors(folder / "model.safetensors"))
    check_finite({name: a for name, a in entries.arrays.items() if a.dtype.kind == "f"}, folder / "model.safetensors")
    with making(path, len(entries.arrays)):
        return read_smp(
            config["_model_class"],
            arguments.pop("encoder_name"),
            drop_compiled(entries),
            arguments.pop("classes"),
            in_channels=arguments.pop("in_channels"),
            **arguments,
        )


def smp_activation(given: str | None, num_classes: int) -> str:
    """Returns "softmax" or "sigmoid", which turns a model's logits into probabilities.

    Args:
      given: smp's `activation`. None, smp's default, is taken as a sigmoid for one class and as softmax for more.
      num_classes: smp's `classes`.

    Raises:
      UserError: the activation does not exist here, or is softmax for a single class.

    >>> smp_activation(None, num_classes=1), smp_activation("softmax2d", num_classes=3)
    ('sigmoid', 'softmax')
    """
    if given in (None, "identity"):
        return "sigmoid" if num_classes == 1 else "softmax"
    if given not in ACTIVATIONS:
        raise UserError(
            f"smp's activation={given!r} has no counterpart here; expected one of {', '.join(ACTIVATIONS)} or None."
            " The weights are the same: give the activation that their loss was made for."
        )
    if num_classes == 1 and ACTIVATIONS[given] == "softmax":
        raise UserError(f"smp's activation={given!r} of a single class is 1 at every pixel. Give activation='sigmoid'.")
    return ACTIVATIONS[given]


def _renamed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """smp's arguments by today's names; where an older name is given, too, it counts, as for smp."""
    older = {FORMERLY[name]: value for name, value in arguments.items() if name in FORMERLY and value is not None}
    return {name: value for name, value in arguments.items() if name not in FORMERLY} | older


def _recipe(arch: str, arguments: Mapping[str, Any]) -> Recipe:
    """The recipe for smp's arguments, or a `UserError` about the one that has no counterpart."""
    make = lookup(SMP_MODELS, arch, "smp architecture")
    if arguments.get("aux_params") is not None:
        raise UserError(
            f"smp's aux_params={arguments['aux_params']!r} makes a classifier of images, which has no counterpart here;"
            " expected None. Such a model cannot be converted."
        )
    _check_norm(arguments.get("decoder_use_norm", "batchnorm"))
    own = {name: value for name, value in arguments.items() if name not in WITHOUT_EFFECT}
    check_options(make, own, f"smp's '{arch}'")
    return make(**own)


def _check_norm(given: Any) -> None:
    """Raises a `UserError` unless smp's `decoder_use_norm`, however it is spelled, is PyTorch's batch normalization."""
    options = dict(given) if isinstance(given, Mapping) else {"type": given}
    kind = {True: "batchnorm", False: "identity"}.get(options.get("type"), options.get("type"))
    if str(kind).lower() == "batchnorm" and all(BATCHNORM.get(k) == v for k, v in options.items() if k != "type"):
        return
    why = {
        "inplace": "InPlaceABN scales by |weight| + eps, not by weight",
        "identity": "the decoders here always normalize",
        "batchnorm": f"the decoders here have PyTorch's defaults, {BATCHNORM}",
    }.get(str(kind).lower(), "the decoders here normalize by the batch")
    raise UserError(
        f"smp's decoder_use_norm={given!r} has no counterpart here: {why}. Expected 'batchnorm', True or"
        " {'type': 'batchnorm'}. Such a model cannot be converted."
    )
