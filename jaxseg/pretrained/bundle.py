"""Bundles: a folder with a model's weights, how to make it, and what its images and labels mean.

    DIR/model.safetensors   every array of the variables by its path: "params/head/conv/kernel"
    DIR/config.json         {"format": "jaxseg 1", "model": arguments of create_model,
                             "in_channels": of the images, 3 where it is missing,
                             "preprocessing": fields of `jaxseg.data.preprocessing.Preprocessing`,
                             "classes", "palette", "ignore", "activation", "threshold", "values", "source"}

A bundle of an encoder alone has "encoder": {"name", "options"} instead of "model". Bundles of older versions have no
"activation", which is then "softmax", and less of the preprocessing.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxseg.checks import UserError
from jaxseg.data.preprocessing import Preprocessing, read_preprocessing
from jaxseg.encoders import create_encoder
from jaxseg.files import (
    Fields,
    atomic_path,
    is_color,
    is_finite,
    is_list,
    is_text,
    is_whole,
    plain,
    read_json,
    short,
    write_json,
)
from jaxseg.models import create_model, pixel_statistics
from jaxseg.models.describe import describe, describe_encoder
from jaxseg.pretrained.convert import input_channels, variables_template
from jaxseg.pretrained.described import check_values, making
from jaxseg.pretrained.matching import check_arrays, check_finite
from jaxseg.pretrained.state_dict import read_safetensors

FORMAT = "jaxseg 1"
LABELS = 65535  # the greatest label that a file of labels can hold
WEIGHTS, CONFIG = "model.safetensors", "config.json"


class Bundle(NamedTuple):
    """The content of a bundle's files, from which `jaxseg.load` makes a trained model."""

    module: nn.Module  # a model, or an encoder
    variables: dict[str, Any]  # {"params", "batch_stats"}, NumPy arrays
    config: dict[str, Any]  # config.json, with what older versions did not write


def save_bundle(
    directory: str | Path,
    module: nn.Module,
    variables: dict[str, Any],
    *,
    classes: Sequence[str] = (),
    palette: Sequence[Sequence[int]] = (),
    ignore: int = 255,
    preprocessing: Preprocessing | None = None,
    activation: str = "softmax",
    threshold: float = 0.5,
    values: Sequence[int] | None = None,
    source: str = "",
) -> None:
    """Writes a model or an encoder and its variables to a folder, which is made if it does not exist.

    Args:
      directory: the folder: a new or an empty one, or one with a bundle, which is then overwritten.
      module: made by `create_model` or `create_encoder`.
      variables: {"params", "batch_stats"}.
      classes: names, one per class; may be left out.
      palette: (red, green, blue) of each class, 0..255; may be left out.
      ignore: the ignore label.
      preprocessing: of images; None normalizes them as the module's own weights expect it.
      activation: "softmax" or "sigmoid", what makes probabilities of the logits.
      threshold: of a model of one class, the probability above which a pixel is labeled 1.
      values: of each label, the value that stands for it in label files; None where ids do.
      source: a sentence about where the weights come from.
    """
    from safetensors.numpy import save_file

    directory = Path(directory)
    _check_free(directory)
    if hasattr(module, "num_classes"):
        what = {"model": describe(module)}
    else:
        name, options = describe_encoder(module)
        what = {"encoder": {"name": name, "options": options | {"output_stride": module.output_stride}}}
    channels = input_channels(module, variables)
    if (getattr(module, "in_channels", None) or channels) != channels:
        raise UserError(
            f"The model was made for images of {module.in_channels} channels, in_channels={module.in_channels}, and its"
            f" variables are for images of {channels}. Make the model with in_channels={channels}."
        )
    if preprocessing is None:
        preprocessing = Preprocessing.from_json(
            dict(zip(("mean", "std"), pixel_statistics(module, channels), strict=True))
        )
    config = {
        "format": FORMAT,
        **what,
        "in_channels": channels,
        "preprocessing": preprocessing.to_json(),
        "classes": list(classes),
        "palette": [list(map(int, color)) for color in palette],
        "ignore": ignore,
        "activation": activation,
        "threshold": threshold,
        "values": None if values is None else list(map(int, values)),
        "source": source,
    }
    arrays = flatten_dict(jax.tree.map(np.ascontiguousarray, dict(variables)), sep="/")
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_path(directory / WEIGHTS) as part:
        save_file(arrays, part)
    write_json(directory / CONFIG, config)


def _check_free(directory: Path) -> None:
    """Raises where a bundle would be written over a file, or among other files, a run's for example."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file, and a bundle is a folder. Name another.")
    if directory.is_dir() and any(directory.iterdir()) and not is_bundle(directory):
        raise UserError(f"{directory} holds other files than a bundle's, which it would mix with. Name a new folder.")


def is_bundle(directory: str | Path) -> bool:
    """Says whether `directory` holds a bundle of jaxseg."""
    try:
        return str(read_json(Path(directory) / CONFIG).get("format")).startswith("jaxseg")
    except (UserError, FileNotFoundError, NotADirectoryError):
        return False


def load_bundle(directory: str | Path, *, dtype: Any = "float32") -> Bundle:
    """Reads a bundle of a model or an encoder.

    Args:
      directory: a folder that `save_bundle` or `jaxseg convert` wrote.
      dtype: of the module's computation; the variables are float32.

    Raises:
      UserError: the files are no bundle, or do not fit together; the message says what does not fit.
    """
    directory = Path(directory).expanduser()
    if not is_bundle(directory) or not (directory / WEIGHTS).is_file():
        raise UserError(f"{directory} is not a bundle: expected a folder with {CONFIG} and {WEIGHTS} of jaxseg.")
    path = directory / CONFIG
    config = read_json(path)
    if config["format"] != FORMAT:
        raise UserError(
            f"{directory} has the format {short(config['format'])}, this jaxseg reads '{FORMAT}'. Update jaxseg."
        )
    what = "model" if "model" in config else "encoder"
    fields = Fields(config, path, "Copy the bundle again, or write it anew.")
    description = dict(fields.group(what).values)
    check_values(description, path, what)
    channels = fields.take("in_channels", is_whole(1, 1024), "a whole number from 1 to 1024", 3)
    if description.get("in_channels", channels) != channels:
        raise UserError(
            f"{path}: the model is for images of {short(description['in_channels'])} channels, its weights are for"
            f" {channels}. {fields.remedy}"
        )
    arrays = read_safetensors(directory / WEIGHTS)
    with making(path, len(arrays)):
        if what == "model":
            module = create_model(**description.pop("options"), **description, dtype=dtype)
        else:
            options = {k: tuple(v) if isinstance(v, list) else v for k, v in description["options"].items()}
            module = create_encoder(description["name"], **options)
        template = flatten_dict(variables_template(module, channels), sep="/")
    check_arrays(arrays, template, directory)
    check_finite(arrays, directory / WEIGHTS)
    config = {**config, "in_channels": channels, **_meaning(fields, getattr(module, "num_classes", None), channels)}
    return Bundle(module, {"batch_stats": {}, **unflatten_dict(arrays, sep="/")}, config)


def _meaning(fields: Fields, num_classes: int | None, channels: int) -> dict[str, Any]:
    """The entries of config.json beside the module's, checked, with what older versions did not write."""
    counts = range(LABELS + 1) if num_classes is None else (0, num_classes, max(num_classes, 2))
    values = is_list(is_whole(-LABELS, LABELS), counts)
    stored = fields.take("values", lambda v: v is None or values(v), "a stored value for each class, or null", None)
    return {
        "preprocessing": read_preprocessing(fields.group("preprocessing"), channels),
        "classes": list(map(plain, fields.take("classes", is_list(is_text, counts), "a name for each class, or none"))),
        "palette": fields.take("palette", is_list(is_color, counts), "a color for each class, or none"),
        "ignore": fields.take("ignore", is_ignored(num_classes or 0), "a whole number, a label that no class has"),
        "threshold": fields.take("threshold", lambda v: is_finite(v) and 0 <= v <= 1, "a number from 0 to 1", 0.5),
        "values": tuple(stored) if stored else None,
        "activation": fields.take("activation", ("softmax", "sigmoid").__contains__, "softmax or sigmoid", "softmax"),
        "source": plain(fields.take("source", is_text, "text")),
    }


def is_ignored(num_classes: int) -> Callable[[Any], bool]:
    """Returns what says whether a value can be the ignore label: it is no class, or 255 where that was the default."""
    whole, taken = is_whole(-LABELS, LABELS), max(num_classes, 2) if num_classes else 0
    return lambda value: whole(value) and (value == 255 or not 0 <= value < taken)
