"""Variables against those that a module has: what is missing, left over or of another shape is said."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.checks import UserError
from jaxseg.files import short
from jaxseg.pretrained.convert import input_channels, variables_template


def check_finite(arrays: Mapping[str, Any], source: str | Path) -> None:
    """Raises a `UserError` where a weight is nan or infinite: every prediction would be, too."""
    for name, array in arrays.items():
        if not np.isfinite(np.asarray(array, np.float32)).all():
            raise UserError(f"{source}: the array {short(name)} holds nan or infinity. The weights are damaged.")


def replace_variables(
    variables: dict[str, Any], theirs: dict[str, Any], source: str | Path, *, replace_head: bool = False
) -> dict[str, Any]:
    """Returns the variables of a trained model, checked against those of the model that training continues with.

    Args:
      variables: of the model to train.
      theirs: of the trained model.
      source: where `theirs` come from, for messages.
      replace_head: whether arrays outside "encoder" and "decoder" whose shapes differ (those of a head for another
        number of classes) keep the values of `variables`; otherwise they are an error.

    Raises:
      UserError: an array is missing, or has another shape.
    """
    fresh = [path for path in _differing(theirs, variables) if path.split("/")[1] not in ("encoder", "decoder")]
    if replace_head:
        old, new = (flatten_dict(tree, sep="/") for tree in (variables, theirs))
        theirs = unflatten_dict(new | {path: old[path] for path in fresh if path in old and path in new}, sep="/")
    elif fresh and len(fresh) == len(_differing(theirs, variables)):
        raise UserError(
            f"The model {source} has another head than this one, in {', '.join(fresh[:3])}; probably other classes."
            " To start with a fresh head, set config.model.replace_head=True."
        )
    _check(theirs, variables, source)
    return theirs


def check_fits(variables: Mapping[str, Any], module: nn.Module, source: str | Path) -> None:
    """Raises a `UserError` if `variables` are not those of a model for images of as many channels as they are for.

    Args:
      variables: {"params", "batch_stats"}.
      module: a model or an encoder.
      source: where they come from, for messages.
    """
    check_arrays(flatten_dict(variables, sep="/"), _wanted(variables, module), source)


def check_shapes_fit(variables: Mapping[str, Any], module: nn.Module, source: str) -> None:
    """Raises a `UserError` if `variables` are not those of a module, which may be of the user's own; see `check_fits`.

    The arrays may be of any type.
    """
    _check_shapes(flatten_dict(variables, sep="/"), _wanted(variables, module), source)


def _wanted(variables: Mapping[str, Any], module: nn.Module) -> dict[str, Any]:
    """The arrays, by path, that a module has for images of as many channels as `variables` are for."""
    stem = "/".join((*getattr(getattr(module, "encoder", module), "stem", ("stem", "conv")), "kernel"))
    found = flatten_dict(variables, sep="/").items()
    channels = next((x.shape[-2] for path, x in found if path.endswith(stem) and len(x.shape) == 4), None)
    channels = input_channels(module, variables) if channels is None else channels
    made_for = getattr(module, "in_channels", None)
    return flatten_dict(variables_template(module, made_for or channels), sep="/")


def _differing(variables: Mapping[str, Any], template: Mapping[str, Any]) -> list[str]:
    """The sorted paths of arrays that only one of the two has, or that have two shapes."""
    found, wanted = ({p: x.shape for p, x in flatten_dict(t, sep="/").items()} for t in (variables, template))
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def _check(variables: Mapping[str, Any], template: Mapping[str, Any], source: str | Path) -> None:
    """Raises if the arrays are not those that the module has."""
    found, wanted = (flatten_dict(tree, sep="/") for tree in (variables, template))
    check_arrays(found, wanted, source)


def check_arrays(found: Mapping[str, Any], wanted: Mapping[str, Any], source: str | Path) -> None:
    """Raises if the arrays, by path, are not those that the module has."""
    _check_shapes(found, wanted, source)
    for name, array in found.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UserError(f"{source}: the array '{name}' holds {array.dtype}, expected float32. Write it anew.")


def _check_shapes(found: Mapping[str, Any], wanted: Mapping[str, Any], source: str | Path) -> None:
    shapes, expected = ({path: x.shape for path, x in arrays.items()} for arrays in (found, wanted))
    differing = sorted(path for path in shapes.keys() | expected.keys() if shapes.get(path) != expected.get(path))
    if differing:
        name = differing[0]
        raise UserError(
            f"{source} does not fit the model in {len(differing)} arrays; the first is {short(name)}: expected"
            f" {expected.get(name, 'none')}, got {shapes.get(name, 'none')}."
            " The weights belong to a different model."
        )
