"""What predicts and evaluates takes a trained model; what else a user may have is told how to become one."""

import os
from typing import Any

from flax import linen as nn

from jaxseg.checks import UserError
from jaxseg.files import short
from jaxseg.trained import TrainedModel

_BUNDLE = (
    "Keep model and variables in a bundle and load it: jaxseg.pretrained.save_bundle(FOLDER, {}, classes=NAMES), then"
    " jaxseg.load(FOLDER)"
)


def check_trained(trained: Any) -> TrainedModel:
    """Returns `trained`, or raises a `UserError` for what is no trained model: what it is, and how to make one of it.

    >>> check_trained("runs/camvid")
    Traceback (most recent call last):
    jaxseg.checks.UserError: Expected a trained model, got 'runs/camvid'. Load it first: jaxseg.load(PATH).
    """
    if isinstance(trained, TrainedModel):
        return trained
    kind = type(trained)
    if isinstance(trained, nn.Module):
        how = f"a model without its variables ({kind.__name__}). {_BUNDLE.format('model, variables')}"
    elif any(cls.__module__.startswith("flax.nnx") for cls in kind.__mro__):
        how = f"a module of NNX ({kind.__name__}). {_BUNDLE.format('linen_model, module.variables')}"
    else:
        got = short(str(trained)) if isinstance(trained, str | os.PathLike) else f"a {kind.__name__}"
        how = f"{got}. Load it first: jaxseg.load(PATH)"
    raise UserError(f"Expected a trained model, got {how}.")
