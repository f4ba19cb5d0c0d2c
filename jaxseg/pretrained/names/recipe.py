"""The records of how a model of another library is made here."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxseg.checks import UserError
from jaxseg.pretrained.names.source import Renames


class Recipe(NamedTuple):
    """How a model of segmentation_models_pytorch (smp) 0.6 is made here."""

    options: dict[str, Any]  # further arguments of `create_model`
    renames: Renames  # from a module's path here to its name there, after SEQUENTIAL and the head's
    idle: str = r"(?!)"  # pattern of entries that smp's model has and never uses
    switches: Mapping[str, str] = {}  # options that are true where an entry has this prefix


class TorchvisionModel(NamedTuple):
    """How a segmentation model of torchvision is made here."""

    architecture: str  # a key of `MODELS`
    encoder: str  # a key of `ENCODERS`
    options: dict[str, Any]  # further arguments of `create_model`
    renames: Renames  # from a module's path here to its name there, after SEQUENTIAL
    scores: str  # its layer that has a bias for every class


# A convolution and its normalization are entries 0 and 1 of a Sequential, unless a later substitution says more.
SEQUENTIAL: Renames = ((r"\.conv$", ".0"), (r"\.norm$", ".1"))


def check_upsampling(given: int, natural: int) -> None:
    """Raises a `UserError` unless smp's `upsampling` makes its logits as large as the image, as they are here.

    Args:
      given: smp's argument, or its default.
      natural: the stride of the features that smp's head enlarges, in pixels of the image.
    """
    if given != natural:
        raise UserError(
            f"smp's upsampling={given} gives logits of {given / natural:g} times the image's size, and the models here"
            f" give logits of the image's own size. The weights are the same: give upsampling={natural} to take them"
            " (in a folder of save_pretrained, in its config.json)."
        )
