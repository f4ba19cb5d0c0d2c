"""What the settings of a run may be: checked before anything is read or made."""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from jaxseg import losses, metrics
from jaxseg.checks import UserError, fits, lookup
from jaxseg.config import ELEMENTS, default_config
from jaxseg.data.preprocessing import FILLS
from jaxseg.experiment.inputs import make_resize
from jaxseg.experiment.xla import PRESETS
from jaxseg.files import is_finite
from jaxseg.models import architecture
from jaxseg.ops.tiling import BLENDS

DTYPES = ("float32", "bfloat16")

AT_LEAST_ONE = (
    "data.batch_size",
    "optim.accumulate",
    "log.every",
    "checkpoint.keep",
    "eval.batch_size",
    "train.fsdp",
)

RANGES = {  # key -> (least, greatest) value
    "seed": (0, 2**32 - 1),
    "data.workers": (0, math.inf),
    "data.threads": (0, math.inf),
    "data.balance": (0, 1),
    "augment.flip": (0, 1),
    "augment.flip_vertical": (0, 1),
    "augment.blur": (0, 1),
    "optim.lr": (0, math.inf),
    "optim.encoder_lr_factor": (0, math.inf),
    "optim.power": (0, math.inf),
    "optim.drop_factor": (math.nextafter(0, 1), math.nextafter(1, 0)),
    "optim.weight_decay": (0, math.inf),
    "optim.beta1": (0, math.nextafter(1, 0)),
    "optim.beta2": (0, math.nextafter(1, 0)),
    "optim.momentum": (0, math.nextafter(1, 0)),
    "optim.warmup_steps": (0, math.inf),
    "optim.clip_norm": (0, math.inf),
    "optim.ema": (0, math.nextafter(1, 0)),
    "eval.threshold": (0, 1),
    "train.devices": (0, math.inf),
    "log.images": (0, math.inf),
    "checkpoint.minutes": (0, math.inf),
    "checkpoint.every": (0, math.inf),
    "eval.every": (0, math.inf),
    "eval.bucket": (0, 8192),
    "eval.overlap": (0, math.nextafter(1, 0)),
}


def flatten(tree: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns the values of a nested mapping by dotted key, e.g. {"optim.lr": 0.001}."""
    return flatten_dict(tree.to_dict() if isinstance(tree, ConfigDict) else tree, sep=".")


def check_config(config: ConfigDict) -> None:
    """Raises a `UserError` for values that no run can have."""
    c, known = config, flatten(default_config())
    for key, value in flatten(config).items():
        if value is None and known.get(key) is not None:
            raise UserError(f"config.{key} is None; it needs a value such as {known[key]!r}, its default.")
    if (c.train.steps > 0) == (c.train.epochs > 0):
        steps, epochs = c.train.steps, c.train.epochs
        choose = f" For {steps} steps add --config.train.epochs=0, for {epochs} epochs --config.train.steps=0."
        raise UserError(
            f"Set one of config.train.steps and config.train.epochs; got {steps} and {epochs}."
            + (choose if steps > 0 else "")
        )
    lookup({name: name for name in DTYPES}, c.model.dtype, "config.model.dtype")
    lookup({"": "", "float32": ""}, c.model.head_dtype, "config.model.head_dtype")
    lookup(PRESETS, c.train.xla, "config.train.xla")
    lookup({"auto": "", **FILLS}, c.eval.fill, "config.eval.fill")
    lookup({"crop": "", "none": ""}, c.eval.phase, "config.eval.phase")
    lookup(BLENDS, c.eval.blend, "config.eval.blend")
    make_resize(c)
    values = flatten(config)
    check_ranges(config)
    for key, kind in ELEMENTS.items():
        if not fits(tuple(values[key]), tuple[kind, ...]):
            words = {int: "whole numbers", float: "numbers", str: "texts"}[kind]
            raise UserError(f"config.{key} must have {words} only, got {tuple(values[key])}.")
    if len(c.augment.scale) != 2 or not 0 < min(c.augment.scale) <= max(c.augment.scale) == c.augment.scale[-1]:
        raise UserError(f"config.augment.scale must be (smallest, largest), both positive, got {c.augment.scale}.")
    ends = (0.0, *c.optim.drops, 1.0)
    if not all(before < after for before, after in itertools.pairwise(ends)):
        raise UserError(
            f"config.optim.drops must be shares of the run between 0 and 1, each larger than the one before, got"
            f" {tuple(c.optim.drops)}."
        )
    for key in ("data.canvas", "data.crop"):
        value = values[key]
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
    if 0 < c.train.steps < c.optim.accumulate:
        raise UserError(
            f"config.optim.accumulate={c.optim.accumulate} batches make one update, and config.train.steps is"
            f" {c.train.steps}: nothing would be learned. Train longer, or accumulate fewer."
        )
    if "encoder" in [path.rstrip("/") for path in c.optim.freeze] and not (c.model.encoder_weights or c.model.weights):
        raise UserError(
            "config.optim.freeze has the whole encoder, and no weights are given for it: it would stay random. Set"
            " config.model.encoder_weights or config.model.weights, or train it."
        )
    check_lr_factors(config)
    losses.check_loss_config(**c.loss.to_dict())
    check_metrics(tuple(c.eval.metrics), c.eval.metric_options.to_dict())


def check_ranges(config: ConfigDict, prefix: str = "") -> None:
    """Raises a `UserError` for a number that is out of its range.

    Args:
      config: of a run.
      prefix: of the keys to look at.
    """
    values = flatten(config)
    for key, (low, high) in {**dict.fromkeys(AT_LEAST_ONE, (1, math.inf)), **RANGES}.items():
        value = values[key]
        if key.startswith(prefix) and not (is_finite(value) and low <= value <= high):
            known = "at least 1" if key in AT_LEAST_ONE else f"a finite number of at least {low:g}"
            known = f"from {low} to {high}" if high < math.inf else known
            if high == math.nextafter(1, 0):
                known = f"{'more than' if low else 'at least'} 0 and less than 1"
            raise UserError(f"config.{key} must be {known}, got {value}.")


def check_lr_factors(config: ConfigDict) -> None:
    """Raises a `UserError` for a factor of the learning rate that is none, and for two of the encoder."""
    factors = config.optim.lr_factors.to_dict()
    for path, factor in factors.items():
        if isinstance(factor, Mapping):  # a dot begins a mapping inside
            whole = next(iter(flatten_dict(factor, sep="/")), "")
            raise UserError(
                f"config.optim.lr_factors.{path} must be a number above 0, got {factor}. Parts of a path have slashes"
                f" between them: {path}/{whole}."
            )
        if not (is_finite(factor) and factor > 0):
            raise UserError(
                f"config.optim.lr_factors.{path} must be a number above 0, got {factor}. Name what is not to be trained"
                " in config.optim.freeze."
            )
    if config.optim.encoder_lr_factor != 1 and any(path.rstrip("/") == "encoder" for path in factors):
        raise UserError(
            f"config.optim.encoder_lr_factor={config.optim.encoder_lr_factor:g} is the factor of 'encoder', which"
            " config.optim.lr_factors names, too. Give one of them."
        )


def check_metrics(names: Sequence[str], options: Mapping[str, Any]) -> dict[str, metrics.Metric]:
    """Returns the metrics that config.eval names; raises a `UserError` for one that does not exist."""
    names = tuple(dict.fromkeys(("confusion", *names)))  # whose mIoU chooses the best checkpoint
    return metrics.create_metrics(names, options)


def without_effect(config: ConfigDict, parts: Collection[str]) -> list[str]:
    """Returns a sentence on each setting that was changed and has no effect beside the others.

    Args:
      config: of a run.
      parts: of the model, which its parameters lie under: "encoder", "head", …
    """
    c, default, values = config, flatten(default_config()), flatten(config)
    idle = {  # what makes it idle -> (whether that is so, the settings)
        "optim.name is 'adamw'": (c.optim.name == "adamw", ("optim.momentum", "optim.nesterov")),
        "optim.name is 'sgd'": (c.optim.name == "sgd", ("optim.beta1", "optim.beta2")),
        f"optim.schedule is '{c.optim.schedule}', not 'poly'": (c.optim.schedule != "poly", ("optim.power",)),
        f"optim.schedule is '{c.optim.schedule}', not 'steps'": (
            c.optim.schedule != "steps",
            ("optim.drops", "optim.drop_factor"),
        ),
        "augment.elastic is 0": (not c.augment.elastic, ("augment.elastic_grid",)),
        "augment.blur is 0": (not c.augment.blur, ("augment.blur_sigma",)),
        "model.weights is empty": (not c.model.weights, ("model.replace_head",)),
        f"the model '{c.model.name}' has no part 'encoder'": ("encoder" not in parts, ("optim.encoder_lr_factor",)),
        "optim.freeze has the encoder": ("encoder" in c.optim.freeze, ("optim.encoder_lr_factor",)),
    }
    return [
        f"config.{key}={values[key]} has no effect: {why}."
        for why, (is_so, keys) in idle.items()
        for key in keys
        if is_so and values[key] != default[key]
    ]


def encoder_name(config: ConfigDict) -> str | None:
    """Returns the name of the encoder: the config's, or the architecture's own if the config names none.

    It is None for an architecture that is its own encoder.
    """
    return config.model.encoder or architecture(config.model.name).default_encoder
