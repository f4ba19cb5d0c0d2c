"""What must be known of an architecture of segmentation_models_pytorch (smp) to make it here."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxseg.pretrained.convert import Renames


class Recipe(NamedTuple):
    """How a model of smp is made here."""

    options: dict[str, Any]  # further arguments of `create_model`
    renames: Renames  # from a module's path here to its name there, after SEQUENTIAL and HEAD
    idle: str = r"(?!)"  # pattern of entries that smp's model has and never uses
    switches: Mapping[str, str] = {}  # options that are true where an entry has this prefix
