"""Bundles: a folder with a model's weights, how to make it, and what its images and labels mean.

    DIR/model.safetensors   every array of the variables by its path: "params/head/conv/kernel"
    DIR/config.json         {"format": "jaxseg 1", "model": arguments of create_model,
                             "in_channels": of the images, 3 where it is missing,
                             "preprocessing": fields of `jaxseg.data.preprocessing.Preprocessing`,
                             "classes", "palette", "ignore", "activation", "threshold", "values", "source",
                             "license", "calibration": fields of `jaxseg.inference.Calibration` or null,
                             "scores": {"data", "split", "date", "checkpoint", "metrics": {name: number}} or null,
                             "made": {"date", "versions", "backend", "weights": the SHA-256 of model.safetensors}}
    DIR/golden.safetensors  an image and what the model said of it, see `jaxseg.pretrained.golden`
    DIR/README.md           the model card, see `jaxseg.pretrained.card`

A bundle of an encoder alone has "encoder": {"name", "options"} instead of "model", and no golden image. Bundles of
older versions have no "activation", which is then "softmax", and less of the rest; only the first two files are needed.
"""

import datetime
import importlib.metadata
import warnings
from collections.abc import Callable, Mapping, Sequence
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
from jaxseg.pretrained import golden
from jaxseg.pretrained.calibration import Calibration, read_calibration
from jaxseg.pretrained.card import write_card
from jaxseg.pretrained.convert import input_channels, variables_template
from jaxseg.pretrained.described import check_values, making
from jaxseg.pretrained.matching import check_arrays, check_finite
from jaxseg.pretrained.state_dict import read_safetensors, write_safetensors

FORMAT = "jaxseg 1"
LABELS = 65535  # the greatest label that a file of labels can hold
WEIGHTS, CONFIG = "model.safetensors", "config.json"
SCORES = 2**14  # numbers that "scores" may hold, one for each class among them


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
    calibration: Calibration | None = None,
    scores: Mapping[str, Any] | None = None,
    source: str = "",
    license: str = "",
    with_golden: bool = True,
) -> None:
    """Writes a model or an encoder and its variables to a folder, which is made if it does not exist.

    A model card is written beside them. One that was edited is kept, and a warning says where the new one is.

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
      calibration: of the probabilities.
      scores: {"data", "split", "date", "checkpoint", "metrics": {name: number}}, what was measured with these weights.
      source: a sentence about where the weights come from.
      license: of the weights, as the Hugging Face hub names it: "apache-2.0", "cc-by-4.0", ...
      with_golden: whether the model is shown an image, whose result is kept for `jaxseg verify`. This compiles it.
    """
    directory = Path(directory)
    check_free(directory)
    what, channels = _describe(module), _channels(module, variables)
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
        "calibration": calibration.to_json() if calibration else None,
        "scores": _finite(scores),
        "source": source,
        "license": license,
    }
    shown = None
    if with_golden and "model" in what and golden.can_have(preprocessing):
        model = _make_model(what["model"], "float32")
        shown = golden.make_golden(model, dict(variables), preprocessing, activation, threshold, calibration)
        if not np.isfinite(shown.probabilities).all():
            warnings.warn(
                "The model makes nan of its golden image, which is left out: its weights are damaged, or untrained.",
                stacklevel=2,
            )
            shown = None
    _write(directory, flatten_dict(jax.tree.map(np.asarray, dict(variables)), sep="/"), config, shown)


def _finite(scores: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Scores without those that are nan, of classes that no image has."""
    if scores is None:
        return None
    return {**scores, "metrics": {name: value for name, value in scores["metrics"].items() if is_finite(value)}}


def _describe(module: nn.Module) -> dict[str, Any]:
    """The entry of config.json that says how a module is made: "model" or "encoder"."""
    if hasattr(module, "num_classes"):
        return {"model": describe(module)}
    name, options = describe_encoder(module)
    return {"encoder": {"name": name, "options": options | {"output_stride": module.output_stride}}}


def _channels(module: nn.Module, variables: dict[str, Any]) -> int:
    """The channels of the images that variables are for, which must be the module's."""
    channels = input_channels(module, variables)
    if (getattr(module, "in_channels", None) or channels) != channels:
        raise UserError(
            f"The model was made for images of {module.in_channels} channels, in_channels={module.in_channels}, and its"
            f" variables are for images of {channels}. Make the model with in_channels={channels}."
        )
    return channels


def _write(directory: Path, arrays: dict[str, np.ndarray], config: dict[str, Any], shown: golden.Golden | None) -> None:
    """Writes the files of a bundle, each whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    write_safetensors(directory / WEIGHTS, arrays)
    (directory / golden.FILE).unlink(missing_ok=True)  # which was of other weights
    if shown is not None:
        golden.write_golden(directory, shown)
    config |= {"made": _made() | {"weights": golden.digest(directory / WEIGHTS)}}
    write_json(directory / CONFIG, config)
    write_card(directory, config, sum(array.size for array in arrays.values()))


def _make_model(description: Mapping[str, Any], dtype: Any) -> nn.Module:
    """The model of an entry "model" of config.json."""
    description = dict(description)
    return create_model(**description.pop("options"), **description, dtype=dtype)


def _made() -> dict[str, Any]:
    """When and with what a bundle is written."""
    names = ("jaxseg", "jax", "flax")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": today, "versions": found, "backend": jax.default_backend()}


def check_free(directory: Path) -> None:
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
            module = _make_model(description, dtype)
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
    activation = fields.take("activation", ("softmax", "sigmoid").__contains__, "softmax or sigmoid", "softmax")
    return {
        "preprocessing": read_preprocessing(fields.group("preprocessing"), channels),
        "classes": list(map(plain, fields.take("classes", is_list(is_text, counts), "a name for each class, or none"))),
        "palette": fields.take("palette", is_list(is_color, counts), "a color for each class, or none"),
        "ignore": fields.take("ignore", is_ignored(num_classes or 0), "a whole number, a label that no class has"),
        "threshold": fields.take("threshold", lambda v: is_finite(v) and 0 <= v <= 1, "a number from 0 to 1", 0.5),
        "values": tuple(stored) if stored else None,
        "activation": activation,
        "calibration": _calibration(fields, activation, num_classes),
        "scores": _scores(fields),
        "source": plain(fields.take("source", is_text, "text")),
        "license": plain(fields.take("license", is_text, "text", "")),
    }


def _calibration(fields: Fields, activation: str, num_classes: int | None) -> Calibration | None:
    if fields.values.get("calibration") is None or num_classes is None:
        return None
    calibration = read_calibration(fields.group("calibration"), max(num_classes, 2))
    to = activation if num_classes > 1 else "softmax"  # of the two labels of one class
    if calibration.activation != to:
        raise UserError(
            f"{fields.path}: the calibration is of the probabilities of a {calibration.activation}, and the model's are"
            f" of a {to}. {fields.remedy}"
        )
    return calibration


def _scores(fields: Fields) -> dict[str, Any] | None:
    if fields.values.get("scores") is None:
        return None
    inside = fields.group("scores")
    metrics = inside.group("metrics")
    named = len(metrics.values) <= SCORES and all(map(is_text, metrics.values))
    inside.take("metrics", lambda _: named, f"an object of at most {SCORES} numbers")
    optional = is_whole(0, 2**63)
    return {name: plain(inside.take(name, is_text, "text", "")) for name in ("data", "split", "date")} | {
        "checkpoint": inside.take("checkpoint", lambda v: v is None or optional(v), "a step, or null", None),
        "metrics": {plain(name): metrics.take(name, is_finite, "a finite number") for name in metrics.values},
    }


def is_ignored(num_classes: int) -> Callable[[Any], bool]:
    """Returns what says whether a value can be the ignore label: it is no class, or 255 where that was the default."""
    whole, taken = is_whole(-LABELS, LABELS), max(num_classes, 2) if num_classes else 0
    return lambda value: whole(value) and (value == 255 or not 0 <= value < taken)
