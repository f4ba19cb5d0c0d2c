"""From a module back to the call that makes it: what a file must hold to rebuild a model."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flax import linen as nn

from jaxseg.checks import UserError
from jaxseg.encoders import ENCODERS
from jaxseg.models import MODELS

LINENS = ("parent", "name")  # fields of every module
GIVEN = ("encoder", "num_classes", "output_stride", "dtype")  # arguments of their own


def describe(model: nn.Module) -> dict[str, Any]:
    """Returns the arguments of `create_model` that make `model`, ready for JSON, but for the compute type.

    >>> from jaxseg.models import create_model
    >>> describe(create_model("fpn", "resnet18", num_classes=5, dropout=0.0))  # doctest: +NORMALIZE_WHITESPACE
    {'name': 'fpn', 'num_classes': 5, 'options': {'dropout': 0.0}, 'encoder': 'resnet18', 'output_stride': 32,
     'encoder_options': {}}
    """
    name, options = _variant(model, MODELS, "jaxseg.MODELS")
    described = {"name": name, "num_classes": model.num_classes, "options": options}
    if hasattr(model, "encoder"):
        encoder, encoder_options = describe_encoder(model.encoder)
        stride = model.encoder.output_stride
        described |= {"encoder": encoder, "output_stride": stride, "encoder_options": encoder_options}
    return described


def describe_encoder(encoder: nn.Module) -> tuple[str, dict[str, Any]]:
    """Returns the name and the further options that `create_encoder` makes `encoder` from."""
    return _variant(encoder, ENCODERS, "jaxseg.ENCODERS")


def _variant(
    module: nn.Module, table: Mapping[str, Callable[..., nn.Module]], where: str
) -> tuple[str, dict[str, Any]]:
    """The entry of `table` that `module` differs least from, and the options in which it does."""
    found = {}
    for name, constructor in table.items():
        preset = constructor.keywords if isinstance(constructor, partial) else {}
        if type(module) is (constructor.func if preset else constructor):
            found[name] = {
                field.name: getattr(module, field.name)
                for field in dataclasses.fields(module)
                if field.name not in (*LINENS, *GIVEN)
                and getattr(module, field.name) != preset.get(field.name, field.default)
            }
    if not found:
        raise UserError(
            f"{type(module).__name__} is not in {where}: only what has a name there can be written to a file."
        )
    name = min(found, key=lambda n: len(found[n]))
    return name, found[name]
