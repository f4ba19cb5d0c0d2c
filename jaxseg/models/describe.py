"""Descriptions of modules: the arguments of `create_model` that rebuild a model, for saving."""

from typing import Any

from flax import linen as nn

from jaxseg.encoders import ENCODERS
from jaxseg.models import MODELS
from jaxseg.models.parts import described


def describe(model: nn.Module) -> dict[str, Any]:
    """Returns the arguments of `create_model` that make `model`, as JSON types, without the compute types.

    >>> from jaxseg.models import create_model
    >>> describe(create_model("fpn", "resnet18", num_classes=5, dropout=0.0))  # doctest: +NORMALIZE_WHITESPACE
    {'name': 'fpn', 'num_classes': 5, 'options': {'dropout': 0.0}, 'encoder': 'resnet18', 'output_stride': 32,
     'encoder_options': {}}
    """
    name, options = described(model, MODELS, "jaxseg.MODELS")
    arguments = {"name": name, "num_classes": model.num_classes, "options": options}
    if model.in_channels is not None:
        arguments["in_channels"] = model.in_channels
    if hasattr(model, "encoder"):
        encoder, encoder_options = describe_encoder(model.encoder)
        stride = model.encoder.output_stride
        arguments |= {"encoder": encoder, "output_stride": stride, "encoder_options": encoder_options}
    return arguments


def describe_encoder(encoder: nn.Module) -> tuple[str, dict[str, Any]]:
    """Returns the arguments of `create_encoder`, name and options, that make `encoder`."""
    return described(encoder, ENCODERS, "jaxseg.ENCODERS")
