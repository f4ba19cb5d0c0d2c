"""Weights from segmentation_models_pytorch (smp) 0.6: encoders and whole models."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flax import linen as nn

from jaxseg.checks import UserError, check_options, lookup
from jaxseg.encoders import create_encoder
from jaxseg.models import create_model
from jaxseg.pretrained.convert import SEQUENTIAL, Renames, aspp_renames, convert_encoder, convert_model
from jaxseg.pretrained.state_dict import StateDict, read_state_dict


class Recipe(NamedTuple):
    """How a model of smp is made here."""

    options: dict[str, Any]  # further arguments of `create_model`
    renames: Renames  # from a module's path here to its name there, after SEQUENTIAL and HEAD
    idle: str = r"(?!)"  # pattern of entries that smp's model has and never uses


HEAD = (r"^head\.", "segmentation_head.")
SCSE = (
    (r"\.channel\.squeeze$", ".attention.cSE.1"),
    (r"\.channel\.excite$", ".attention.cSE.3"),
    (r"\.spatial$", ".attention.sSE.0"),
)
# Arguments of every smp model: these must have one of the values given, and these others change no weight.
REQUIRED = {"activation": (None, "identity"), "aux_params": (None,), "decoder_use_norm": ("batchnorm", True)}
WITHOUT_EFFECT = ("encoder_name", "encoder_weights", "classes", "upsampling")


def unet(
    *,
    encoder_depth: int = 5,
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    decoder_attention_type: str | None = None,
    decoder_interpolation: str = "nearest",
) -> Recipe:
    """How smp's Unet is made here; the arguments and their defaults are smp's, as in the functions below."""
    return Recipe(
        options={
            "encoder_options": {"depth": encoder_depth},
            "decoder_channels": tuple(decoder_channels),
            "attention": decoder_attention_type,
            "method": decoder_interpolation,
        },
        renames=(*SCSE, (r"^decoder\.block", "decoder.blocks.")),
        idle=r"decoder\.blocks\.\d+\.attention1\.",  # of the last block, which has no skip to attend to
    )


def fpn(
    *,
    decoder_pyramid_channels: int = 256,
    decoder_segmentation_channels: int = 128,
    decoder_dropout: float = 0.2,
    decoder_interpolation: str = "nearest",
) -> Recipe:
    """How smp\'s FPN is made here."""
    branches = [
        (rf"^decoder\.branch_c{5 - i}_conv{j + 1}\.", f"decoder.seg_blocks.{i}.block.{j}.block.")
        for i in range(4)
        for j in range(3)
    ]
    return Recipe(
        options={
            "pyramid_features": decoder_pyramid_channels,
            "features": decoder_segmentation_channels,
            "dropout": decoder_dropout,
            "method": decoder_interpolation,
        },
        renames=(
            (r"^decoder\.lateral_c5$", "decoder.p5"),
            (r"^decoder\.lateral_c(\d)$", r"decoder.p\1.skip_conv"),
            *branches,
        ),
    )


def pspnet(*, encoder_depth: int = 3, psp_out_channels: int = 512, psp_dropout: float = 0.2) -> Recipe:
    """How smp\'s PSPNet is made here."""
    bins = (1, 2, 3, 6)
    return Recipe(
        options={
            "encoder_options": {"depth": encoder_depth},
            "output_stride": 32,
            "level": f"c{encoder_depth}",
            "features": psp_out_channels,
            "bins": bins,
            "projection_kernel": 1,
            "head_kernel": 3,
            "dropout": psp_dropout,
            "auxiliary": False,
        },
        renames=(
            *((rf"^decoder\.bin{n}\.", f"decoder.psp.blocks.{i}.pool.1.") for i, n in enumerate(bins)),
            (r"^decoder\.project\.", "decoder.conv."),
        ),
    )


def deeplabv3(
    *,
    encoder_output_stride: int = 8,
    decoder_channels: int = 256,
    decoder_atrous_rates: Sequence[int] = (12, 24, 36),
    decoder_aspp_separable: bool = False,
    decoder_aspp_dropout: float = 0.5,
) -> Recipe:
    """How smp\'s DeepLabV3 is made here."""
    return Recipe(
        options={
            "output_stride": encoder_output_stride,
            "features": decoder_channels,
            "rates": tuple(decoder_atrous_rates),
            "separable": decoder_aspp_separable,
            "dropout": decoder_aspp_dropout,
        },
        renames=(
            *aspp_renames(decoder_atrous_rates),
            (r"^decoder\.conv\.0$", "decoder.conv"),
            (r"^decoder\.conv\.1$", "decoder.bn"),
        ),
    )


def deeplabv3plus(
    *,
    encoder_output_stride: int = 16,
    decoder_channels: int = 256,
    decoder_atrous_rates: Sequence[int] = (12, 24, 36),
    decoder_aspp_separable: bool = True,
    decoder_aspp_dropout: float = 0.5,
) -> Recipe:
    """How smp\'s DeepLabV3Plus is made here."""
    same = deeplabv3(
        encoder_output_stride=encoder_output_stride,
        decoder_channels=decoder_channels,
        decoder_atrous_rates=decoder_atrous_rates,
        decoder_aspp_separable=decoder_aspp_separable,
        decoder_aspp_dropout=decoder_aspp_dropout,
    )
    return Recipe(
        options=same.options,
        renames=(
            *aspp_renames(decoder_atrous_rates),
            (r"^decoder\.aspp\.", "decoder.aspp.0."),
            (r"^decoder\.context\.1$", "decoder.aspp.2"),
            (r"^decoder\.context\.depthwise$", "decoder.aspp.1.0"),
            (r"^decoder\.context\.pointwise$", "decoder.aspp.1.1"),
            (r"^decoder\.reduce\.", "decoder.block1."),
            (r"^decoder\.fuse\.1$", "decoder.block2.1"),
            (r"^decoder\.fuse\.depthwise$", "decoder.block2.0.0"),
            (r"^decoder\.fuse\.pointwise$", "decoder.block2.0.1"),
        ),
    )


ARCHITECTURES: dict[str, Callable[..., Recipe]] = {
    "unet": unet,
    "fpn": fpn,
    "pspnet": pspnet,
    "deeplabv3": deeplabv3,
    "deeplabv3plus": deeplabv3plus,
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
    arrays = {key.removeprefix("model."): value for key, value in read_state_dict(state_dict).items()}
    return convert_encoder(encoder, name, arrays, in_channels=in_channels)


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
    if any(key.startswith("encoder.model.") for key in arrays):  # made by timm, with timm's rule
        encoder_options["dilate_first"] = False
    encoder = encoder.removeprefix("tu-").removeprefix("tf_")
    model = create_model(arch, encoder, num_classes=num_classes, encoder_options=encoder_options, **recipe.options)
    variables = convert_model(
        model,
        encoder,
        {re.sub(r"^encoder\.model\.", "encoder.", key): value for key, value in arrays.items()},
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
