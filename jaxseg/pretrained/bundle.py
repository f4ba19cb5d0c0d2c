"""Bundles: a folder with a model's weights, how to make it, and what its pictures and labels mean.

    DIR/model.safetensors   every array of the variables by its path: "params/head/conv/kernel"
    DIR/config.json         {"format": "jaxseg 1", "model": arguments of create_model,
                             "preprocessing": {"mean", "std"}, "classes", "palette", "ignore", "source"}

A bundle of an encoder alone has "encoder": {"name", "options"} instead of "model".
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.checks import UserError
from jaxseg.encoders import create_encoder
from jaxseg.models import create_model, pixel_statistics
from jaxseg.models.describe import describe, describe_encoder
from jaxseg.pretrained.convert import variables_template

FORMAT = "jaxseg 1"
WEIGHTS, CONFIG = "model.safetensors", "config.json"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """What a bundle holds."""

    module: nn.Module  # a model, or an encoder
    variables: dict[str, Any]  # {"params", "batch_stats"}, NumPy arrays
    mean: tuple[float, ...]  # of each channel, 0..255
    std: tuple[float, ...]
    classes: tuple[str, ...] = ()  # () where it is not known
    palette: tuple[tuple[int, int, int], ...] = ()
    ignore: int = 255
    source: str = ""  # where the weights come from, and under which licence


def save_bundle(
    directory: str | Path,
    module: nn.Module,
    variables: dict[str, Any],
    *,
    classes: Sequence[str] = (),
    palette: Sequence[Sequence[int]] = (),
    ignore: int = 255,
    source: str = "",
) -> None:
    """Writes a model or an encoder and its variables to `directory`, which is made.

    Args:
      directory: of the bundle; one that is there is overwritten.
      module: made by `create_model` or `create_encoder`.
      variables: {"params", "batch_stats"}.
      classes: names, one a class; may be left out.
      palette: (red, green, blue) of each class, 0..255; may be left out.
      ignore: the label value of pixels that do not count.
      source: a sentence about where the weights come from.
    """
    from safetensors.numpy import save_file

    if hasattr(module, "num_classes"):
        what = {"model": describe(module)}
    else:
        name, options = describe_encoder(module)
        what = {"encoder": {"name": name, "options": options | {"output_stride": module.output_stride}}}
    mean, std = pixel_statistics(module)
    config = {
        "format": FORMAT,
        **what,
        "preprocessing": {"mean": mean, "std": std},
        "classes": list(classes),
        "palette": [list(map(int, colour)) for colour in palette],
        "ignore": ignore,
        "source": source,
    }
    arrays = flatten_dict(jax.tree.map(np.ascontiguousarray, dict(variables)), sep="/")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_file(arrays, directory / WEIGHTS)
    (directory / CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def is_bundle(directory: str | Path) -> bool:
    """Says whether `directory` holds a bundle of jaxseg."""
    path = Path(directory) / CONFIG
    return path.is_file() and '"format": "jaxseg' in path.read_text()


def load_bundle(directory: str | Path, *, dtype: Any = "float32") -> Bundle:
    """Reads a bundle, or raises a `UserError` that says what does not fit.

    Args:
      directory: a folder that `save_bundle` or `python -m jaxseg convert` wrote.
      dtype: compute type of the module.
    """
    from safetensors.numpy import load_file

    directory = Path(directory).expanduser()
    if not is_bundle(directory) or not (directory / WEIGHTS).is_file():
        raise UserError(f"{directory} is not a bundle: expected a folder with {CONFIG} and {WEIGHTS} of jaxseg.")
    config = json.loads((directory / CONFIG).read_text())
    if config["format"] != FORMAT:
        raise UserError(
            f"{directory} has the format '{config['format']}', this jaxseg reads '{FORMAT}'. Update jaxseg."
        )
    if "model" in config:
        module = create_model(**config["model"], dtype=dtype)
    else:
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in config["encoder"]["options"].items()}
        module = create_encoder(config["encoder"]["name"], **options)
    variables = {"batch_stats": {}, **unflatten_dict(load_file(directory / WEIGHTS), sep="/")}
    _check(variables, variables_template(module), directory)
    return Bundle(
        module=module,
        variables=variables,
        mean=tuple(config["preprocessing"]["mean"]),
        std=tuple(config["preprocessing"]["std"]),
        classes=tuple(config["classes"]),
        palette=tuple(tuple(colour) for colour in config["palette"]),
        ignore=config["ignore"],
        source=config["source"],
    )


def _check(variables, template, directory):
    """Raises if the arrays are not those that the module has."""
    found = {"/".join(path): x.shape for path, x in flatten_dict(variables).items()}
    wanted = {"/".join(path): x.shape for path, x in flatten_dict(template).items()}
    differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if differing:
        name = differing[0]
        raise UserError(
            f"{directory / WEIGHTS} does not fit its {CONFIG} in {len(differing)} arrays, first '{name}': expected"
            f" {wanted.get(name, 'none')}, got {found.get(name, 'none')}. Convert or save it again."
        )
