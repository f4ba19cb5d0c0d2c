"""From a config to the things it names, with every mistake that can be seen early said early."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from jaxseg import losses, metrics
from jaxseg.checks import UserError, lookup
from jaxseg.config import OPEN, default_config
from jaxseg.data import Dataset, check_dataset, create_dataset
from jaxseg.experiment import devices as shard
from jaxseg.files import write_json
from jaxseg.models import architecture, create_model, pixel_statistics

DTYPES = ("float32", "bfloat16")
# A run may go on with another value of these: they change where things are or what is shown, not the numbers.
FREE_KEYS = (
    "data.root",
    "data.workers",
    "train.compilation_cache",
    "log.",
    "checkpoint.keep",
    "eval.metric",
    "eval.crf.",
    "eval.guided.",
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config and what it stands for."""

    config: ConfigDict
    dataset: Dataset
    model: nn.Module
    mean: tuple[float, ...]  # of each channel, in units of the uint8 picture
    std: tuple[float, ...]


def build(config: ConfigDict, *, splits: Sequence[str]) -> Experiment:
    """Returns the experiment of `config`, or raises a `UserError` that says what to change.

    Args:
      config: of `jaxseg.config.default_config`.
      splits: those of the data set that will be read; they must exist and not be empty.
    """
    check_config(config)
    c = config.data
    dataset = create_dataset(
        c.name,
        c.root,
        label_offset=c.label_offset,
        label_ignore=tuple(c.label_ignore),
        **c.options.to_dict(),
    )
    for split in splits:
        check_dataset(dataset, split)
    losses.check_loss_config(**config.loss.to_dict(), num_classes=dataset.num_classes)
    model = build_model(config, dataset.num_classes)
    return Experiment(config, dataset, model, *pixel_statistics(model))


def count_steps(experiment: Experiment) -> tuple[int, int]:
    """Returns (steps of the whole run, steps between evaluations)."""
    config, c = experiment.config, experiment.config.data
    pictures = len(experiment.dataset.splits[c.train_split])
    per_epoch = pictures // c.batch_size
    if not per_epoch:
        raise UserError(
            f"The split '{c.train_split}' has {pictures} pictures, fewer than config.data.batch_size={c.batch_size}."
            " Use a smaller batch."
        )
    return config.train.steps or config.train.epochs * per_epoch, config.eval.every or per_epoch


def build_model(config: ConfigDict, num_classes: int) -> nn.Module:
    """Returns the module that `config.model` describes."""
    c = config.model
    return create_model(
        c.name,
        encoder=c.encoder,
        num_classes=num_classes,
        output_stride=c.output_stride,
        dtype=c.dtype,
        encoder_options=c.encoder_options.to_dict(),
        **c.options.to_dict(),
    )


def encoder_name(config: ConfigDict) -> str | None:
    """Returns the name of the encoder, the architecture's own where the config leaves it open."""
    return config.model.encoder or architecture(config.model.name).default_encoder


def check_config(config: ConfigDict) -> None:
    """Raises a `UserError` for values that no run can have."""
    c = config
    if (c.train.steps > 0) == (c.train.epochs > 0):
        raise UserError(
            f"Set one of config.train.steps and config.train.epochs; got {c.train.steps} and {c.train.epochs}."
        )
    lookup({name: name for name in DTYPES}, c.model.dtype, "config.model.dtype")
    positive = ("data.batch_size", "optim.accumulate", "log.every", "checkpoint.every", "eval.batch_size")
    for key in positive:
        if _get(c, key) < 1:
            raise UserError(f"config.{key} must be at least 1, got {_get(c, key)}.")
    for key in ("data.canvas", "data.crop"):
        value = _get(c, key)
        if len(value) != 2 or min(value) < 1:
            raise UserError(f"config.{key} must be (height, width) in pixels, both positive, got {tuple(value)}.")
    zoom = max(c.augment.scale)
    for axis, name in enumerate(("height", "width")):
        held = c.data.canvas[axis] * zoom
        if c.data.crop[axis] > held:
            raise UserError(
                f"config.data.crop {tuple(c.data.crop)} can never be filled: its {name} is {c.data.crop[axis]} pixels,"
                f" but config.data.canvas {tuple(c.data.canvas)} at its largest zoom, config.augment.scale"
                f" {tuple(c.augment.scale)}, is {held:g}. Enlarge the canvas or shrink the crop."
            )
    losses.check_loss_config(**c.loss.to_dict())
    check_metrics(tuple(c.eval.metrics), c.eval.metric_options.to_dict())


def check_metrics(names: Sequence[str], options: Mapping[str, Any]) -> dict[str, metrics.Metric]:
    """Returns the metrics that config.eval names; raises a `UserError` for one that does not exist."""
    if "confusion" not in names:
        raise UserError(
            f"config.eval.metrics must name 'confusion', whose mIoU chooses the best checkpoint; got {tuple(names)}."
        )
    return metrics.create_metrics(names, options)


def _get(config, key):
    for part in key.split("."):
        config = config[part]
    return config


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Returns {"optim.lr": 0.001, …}, the leaves of a nested mapping by dotted key."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict | ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def claim_workdir(config: ConfigDict, dataset: Dataset, workdir: str | Path) -> None:
    """Writes config.json and dataset.json, or checks that the workdir belongs to the same config."""
    workdir = Path(workdir)
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir {workdir} is a file. Name a folder.")
    path = workdir / "config.json"
    ours = flatten(json.loads(config.to_json()))
    if path.exists():
        theirs = flatten(json.loads(path.read_text()))
        changed = [
            f"  config.{key}: {theirs.get(key, 'absent')} there, {ours.get(key, 'absent')} here"
            for key in sorted(ours.keys() | theirs.keys())
            if not key.startswith(FREE_KEYS) and ours.get(key, "absent") != theirs.get(key, "absent")
        ]
        if changed:
            raise UserError(
                f"--workdir {workdir} holds a run of another config:\n" + "\n".join(changed[:12]) + "\n"
                "Name a new workdir, or give the old values to go on with that run."
            )
    shard.wait_for_all("the workdir is checked")
    if jax.process_index():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(path, json.loads(config.to_json()))
    write_json(
        workdir / "dataset.json",
        {
            "name": dataset.name,
            "classes": list(dataset.classes),
            "palette": [list(map(int, colour)) for colour in dataset.palette],
            "ignore": dataset.ignore,
        },
    )


def read_config(workdir: str | Path) -> ConfigDict:
    """Returns the config of a workdir; keys that are newer than it take their defaults."""
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise UserError(f"No run in {workdir}: {path} is missing. Check --workdir.")
    config = default_config()
    with config.unlocked():
        _merge(config, json.loads(path.read_text()), "")
    return config


def _merge(config, values, prefix):
    for key, value in values.items():
        if isinstance(value, dict) and prefix + key not in OPEN:
            _merge(config[key], value, f"{prefix}{key}.")
        else:
            config[key] = tuple(value) if isinstance(value, list) else value


def enable_compilation_cache(folder: str) -> None:
    """Keeps compiled programs in `folder` between runs; "" is off."""
    if folder:
        jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
