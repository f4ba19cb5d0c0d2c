"""Weights from segmentation_models_pytorch (smp) 0.6: encoders and whole models."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import linen as nn

from jaxseg.checks import UserError, lookup, suggest
from jaxseg.encoders import create_encoder
from jaxseg.models import create_model
from jaxseg.pretrained.convert import ModulePath, convert, convert_encoder, variables_template
from jaxseg.pretrained.state_dict import StateDict, read_state_dict


class Argument(NamedTuple):
    """An argument of smp's constructor that decides what is built."""

    default: Any
    field: str  # of the model here, or of its encoder


class Architecture(NamedTuple):
    """What `from_smp` has to know of an architecture."""

    arguments: Mapping[str, Argument]
    renames: tuple[tuple[str, str], ...]  # substitutions from a module's path here to its name there, see `smp_key`
    idle: str = r"(?!)"  # pattern of entries that smp's model has and never uses


ENCODER_DEPTH = {"encoder_depth": Argument(5, "depth")}
ENCODER_FIELDS = ("depth", "output_stride")
# Arguments of every smp model: these must have one of the values given, and these others change no weight.
REQUIRED = {"activation": (None, "identity"), "aux_params": (None,), "decoder_use_norm": ("batchnorm", True)}
WITHOUT_EFFECT = ("encoder_name", "encoder_weights", "classes", "upsampling")

# A convolution and its normalisation are entries 0 and 1 of a Sequential, everywhere but where a later rule says more.
SEQUENTIAL = ((r"\.conv$", ".0"), (r"\.norm$", ".1"), (r"^head\.", "segmentation_head."))
SCSE = (
    (r"\.channel\.squeeze$", ".attention.cSE.1"),
    (r"\.channel\.excite$", ".attention.cSE.3"),
    (r"\.spatial$", ".attention.sSE.0"),
)

ARCHITECTURES = {
    "unet": Architecture(
        arguments={
            **ENCODER_DEPTH,
            "decoder_channels": Argument((256, 128, 64, 32, 16), "decoder_channels"),
            "decoder_attention_type": Argument(None, "attention"),
            "decoder_interpolation": Argument("nearest", "method"),
        },
        renames=(*SCSE, (r"^decoder\.block", "decoder.blocks.")),
        idle=r"decoder\.blocks\.\d+\.attention1\.",  # of the last block, which has no skip to attend to
    ),
}


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
    return convert_encoder(encoder, name, below(read_state_dict(state_dict), "model."), in_channels=in_channels)


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
    architecture = lookup(ARCHITECTURES, arch, "smp architecture")
    fields = _fields(arch, architecture, arguments)
    arrays = read_state_dict(state_dict)
    encoder_options = {name: fields.pop(name) for name in ENCODER_FIELDS if name in fields}
    output_stride = encoder_options.pop("output_stride", None)
    if any(key.startswith("encoder.model.") for key in arrays):  # made by timm, with timm's rule
        encoder_options["dilate_first"] = False
    encoder = encoder.removeprefix("tu-").removeprefix("tf_")
    model = create_model(
        arch,
        encoder,
        num_classes=num_classes,
        output_stride=output_stride,
        encoder_options=encoder_options,
        **fields,
    )
    rest = {key: value for key, value in arrays.items() if not key.startswith("encoder.")}
    template = variables_template(model, in_channels)
    for collection in template.values():
        collection.pop("encoder", None)
    variables = convert(
        template,
        rest,
        lambda path: smp_key(architecture, path),
        what=f"smp's '{arch}' decoder and head",
        unused=lambda key: re.match(architecture.idle, key) is not None,
    )
    features = below(below(arrays, "encoder."), "model.")
    for collection, values in convert_encoder(model.encoder, encoder, features, in_channels=in_channels).items():
        variables.setdefault(collection, {})["encoder"] = values
    return model, variables


def below(state_dict: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Takes the entries whose names start with `prefix`, without it; or all, if none does."""
    found = {key.removeprefix(prefix): v for key, v in state_dict.items() if key.startswith(prefix)}
    return found or dict(state_dict)


def smp_key(architecture: Architecture, path: ModulePath) -> str:
    """Names a module of a decoder or a head as smp does: substitutions one after the other.

    >>> smp_key(ARCHITECTURES["unet"], ("decoder", "block0", "conv1", "norm"))
    'decoder.blocks.0.conv1.1'
    """
    name = ".".join(path)
    for pattern, replacement in (*SEQUENTIAL, *architecture.renames):
        name = re.sub(pattern, replacement, name)
    return name


def _fields(arch: str, architecture: Architecture, given: Mapping[str, Any]) -> dict[str, Any]:
    """The model's fields for smp's arguments, or a `UserError` about the one that has no counterpart."""
    known = {*architecture.arguments, *REQUIRED, *WITHOUT_EFFECT}
    for name, value in given.items():
        if name not in known:
            raise UserError(f"smp's '{arch}' has no argument '{name}' that is known here. {suggest(name, known)}")
        if name in REQUIRED and value not in REQUIRED[name]:
            raise UserError(
                f"smp's {name}={value!r} has no counterpart here; expected {REQUIRED[name][0]!r}."
                " Its weights cannot be converted."
            )
    return {argument.field: given.get(name, argument.default) for name, argument in architecture.arguments.items()}
