"""Builds the data set, model, loss and optimizer of a config, and checks the config before training starts."""

import dataclasses
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from jaxseg import losses, metrics
from jaxseg.checks import UserError, fits, lookup
from jaxseg.config import ELEMENTS, OPEN, default_config, with_current_names
from jaxseg.data import Dataset, check_dataset, create_dataset
from jaxseg.data.augment import Augment, augment, check_colors
from jaxseg.data.bands import RGB, Bands
from jaxseg.data.check import Look
from jaxseg.data.preprocessing import FILLS, Preprocessing, read_preprocessing
from jaxseg.data.resize import Resize
from jaxseg.data.statistics import fit_mean_and_std, fit_window, spread
from jaxseg.experiment import devices as shard
from jaxseg.experiment import optim
from jaxseg.files import Fields, is_finite, read_json, write_json
from jaxseg.models import architecture, coarsest_stride, create_model, pixel_statistics

DTYPES = ("float32", "bfloat16")
AT_LEAST_ONE = (
    "data.batch_size",
    "optim.accumulate",
    "log.every",
    "checkpoint.every",
    "checkpoint.keep",
    "eval.batch_size",
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
    "optim.weight_decay": (0, math.inf),
    "optim.beta1": (0, math.nextafter(1, 0)),
    "optim.beta2": (0, math.nextafter(1, 0)),
    "optim.momentum": (0, 1),
    "optim.warmup_steps": (0, math.inf),
    "optim.clip_norm": (0, math.inf),
    "optim.ema": (0, 1),
    "eval.threshold": (0, 1),
    "train.devices": (0, math.inf),
    "log.images": (0, math.inf),
    "eval.every": (0, math.inf),
    "eval.bucket": (0, 8192),
}
FINEST, STEPS = 8, 8  # of eval.bucket 0: the least bucket, in pixels, and `Preprocessing.steps`
# A run may go on with another value of these: they change where things are or what is shown, not the numbers.
FREE_KEYS = (
    "data.root",
    "data.workers",
    "data.threads",
    "train.compilation_cache",
    "log.",
    "checkpoint.keep",
    "eval.metric",
    "eval.crf.",
    "eval.guided.",
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config, and the data set and model that were built from it."""

    config: ConfigDict
    dataset: Dataset
    model: nn.Module
    preprocessing: Preprocessing
    looks: tuple[Look, ...] = ()  # at the splits that are read, of a part of their images


def build(config: ConfigDict, *, splits: Sequence[str], workdir: str | Path | None = None) -> Experiment:
    """Builds the data set and the model of a config. No weights are made or read.

    Args:
      config: a tree like that of `jaxseg.config.default_config`.
      splits: names of the splits that will be read; each must exist and have at least one image.
      workdir: of the run; what it has found out about its images is not found out again.

    Raises:
      UserError: a setting is wrong; the message says which, and what to change.
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
    looks = tuple(check_dataset(dataset, split) for split in splits)
    losses.check_loss_config(**config.loss.to_dict(), num_classes=dataset.num_classes)
    model = build_model(config, dataset.num_classes)
    preprocessing = _claimed(workdir) or fit_preprocessing(config, dataset, model)
    check_colors(Augment(**config.augment), preprocessing.bands)
    return Experiment(config, dataset, model, preprocessing, looks)


def fit_preprocessing(config: ConfigDict, dataset: Dataset, model: nn.Module) -> Preprocessing:
    """Returns what is done to images before the model of `config` sees them.

    8-bit RGB images are normalized as the encoder's weights expect it. For others the window, if it is not given, and
    the mean and deviation of every band are fitted to images that are spread evenly over the training split.
    """
    bands, source = dataset.bands, dataset.splits[config.data.train_split]
    if bands.window is None and bands.dtype != "uint8":
        bands = dataclasses.replace(bands, window=fit_window(spread(source), bands))
    statistics = pixel_statistics(model) if bands.is_rgb else fit_mean_and_std(spread(source), bands)
    resize = make_resize(config)
    shapes = [resize(*image.shape[:2]) for image in spread(source, 8)]
    return Preprocessing(
        *statistics,
        bands=bands,
        resize=resize,
        fill=config.eval.fill if config.eval.fill != "auto" else "gray" if _shows_border(config, shapes) else "reflect",
        phase=tuple(config.data.crop) if config.eval.phase == "crop" else (0, 0),
        bucket=config.eval.bucket or max(coarsest_stride(model), FINEST),
        steps=0 if config.eval.bucket else STEPS,
    )


def make_resize(config: ConfigDict) -> Resize:
    """Returns the rule of `config.data.resize`."""
    c = config.data.resize
    return Resize(c.factor, c.short_side, tuple(c.size))


def _shows_border(config: ConfigDict, shapes: Sequence[tuple[int, int]]) -> bool:
    """Whether training shows the model what lies outside of images of these sizes."""
    c, options = config.data, config.augment
    least = min(options.scale) / math.sqrt(options.aspect)
    held = [min(n, canvas) * least for shape in shapes for n, canvas in zip(shape, c.canvas, strict=True)]
    return bool(options.rotate or options.elastic) or any(
        crop > n for crop, n in zip(list(c.crop) * len(shapes), held, strict=True)
    )


def _claimed(workdir: str | Path | None) -> Preprocessing | None:
    """Returns what a run that has a checkpoint found out about its images, None where there is no such run."""
    if workdir is None or not any((Path(workdir) / "checkpoints").glob("[0-9]*")):
        return None
    path = Path(workdir) / "dataset.json"
    if not path.exists():
        return None
    fields = Fields(read_json(path), path, "Copy it again, or train again.")
    return read_preprocessing(fields.group("preprocessing")) if "preprocessing" in fields.values else None


def count_steps(experiment: Experiment) -> tuple[int, int]:
    """Returns the number of steps of the whole run, and the number of steps between two evaluations.

    Batches at the end that do not make up an update, of config.optim.accumulate batches, are left out, with a warning.

    Raises:
      UserError: the training split has fewer images than one batch, and a setting counts in epochs. A batch may hold
        several windows of one image, so that a run can learn from a single large one; its length is then in steps.
        The run has fewer batches than one update.
    """
    config, c = experiment.config, experiment.config.data
    images = len(experiment.dataset.splits[c.train_split])
    per_epoch = images // c.batch_size
    if not per_epoch and not (config.train.steps and config.eval.every):
        raise UserError(
            f"The split '{c.train_split}' has {images} images, fewer than config.data.batch_size={c.batch_size}."
            " Use a smaller batch or, for windows of few large images, set config.train.steps and config.eval.every."
        )
    steps, accumulate = config.train.steps or config.train.epochs * per_epoch, config.optim.accumulate
    if steps < accumulate:
        raise UserError(
            f"The run has {steps} batches, fewer than the config.optim.accumulate={accumulate} of one update: nothing"
            " would be learned. Train longer, or accumulate fewer."
        )
    if left := steps % accumulate:
        warnings.warn(
            f"The last {left} of {steps} batches make no update of config.optim.accumulate={accumulate} batches: the"
            f" run has {steps - left} steps."
        )
    return steps - left, config.eval.every or per_epoch


def build_model(config: ConfigDict, num_classes: int) -> nn.Module:
    """Returns the linen module that `config.model` describes, with `num_classes` classes."""
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


def make_augment(
    config: ConfigDict, *, ignore: int, mean: tuple[float, ...], std: tuple[float, ...], bands: Bands = RGB
) -> Callable[..., dict[str, jax.Array]]:
    """Returns the augmentation that `config.augment` and `config.data.crop` describe.

    It is a function (key, batch) -> {"image", "label", "where"}, see `jaxseg.data.augment.augment`.

    Args:
      config: of the run.
      ignore: the ignore label.
      mean: of each band, in 0..255, subtracted from the images.
      std: of each band, in 0..255, that the images are divided by.
      bands: of the images.
    """
    given = {"options": Augment(**config.augment), "crop": tuple(config.data.crop), "ignore": ignore}
    return partial(augment, **given, mean=mean, std=std, bands=bands)


def make_loss(config: ConfigDict) -> Callable[..., tuple[jax.Array, dict[str, jax.Array]]]:
    """Returns the loss that `config.loss` describes.

    It is a function (outputs, labels, where, step) -> (loss, {"head/loss": the loss before its weights}).
    """
    arguments = config.loss.to_dict()

    def loss_fn(
        outputs: Mapping[str, jax.Array], labels: jax.Array, where: jax.Array | None, step: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        return losses.weighted_sum(outputs, labels, where, **arguments, step=step)

    return loss_fn


def make_schedule(config: ConfigDict, steps: int) -> optax.Schedule:
    """Returns the schedule that `config.optim` describes: a function from the number of updates to the learning rate.

    Args:
      config: of the run.
      steps: batches of the whole run.
    """
    c = config.optim
    names = ("lr", "schedule", "power", "warmup_steps", "accumulate")
    return optim.make_schedule(steps, **{name: c[name] for name in names})


def make_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimizer that `config.optim` describes. Frozen parameters are left to `make_train_step`."""
    c = config.optim
    names = ("name", "weight_decay", "beta1", "beta2", "momentum", "nesterov")
    names += ("clip_norm", "encoder_lr_factor", "accumulate")
    return optim.make_optimizer(schedule, **{name: c[name] for name in names})


def encoder_name(config: ConfigDict) -> str | None:
    """Returns the name of the encoder: the config's, or the architecture's own if the config names none.

    It is None for an architecture that is its own encoder.
    """
    return config.model.encoder or architecture(config.model.name).default_encoder


def check_config(config: ConfigDict) -> None:
    """Raises a `UserError` for values that no run can have."""
    c, known = config, flatten(default_config())
    for key, value in flatten(config).items():
        if value is None and known.get(key) is not None:
            raise UserError(f"config.{key} is None; it needs a value such as {known[key]!r}, its default.")
    if (c.train.steps > 0) == (c.train.epochs > 0):
        raise UserError(
            f"Set one of config.train.steps and config.train.epochs; got {c.train.steps} and {c.train.epochs}."
        )
    lookup({name: name for name in DTYPES}, c.model.dtype, "config.model.dtype")
    lookup({"auto": "", **FILLS}, c.eval.fill, "config.eval.fill")
    lookup({"crop": "", "none": ""}, c.eval.phase, "config.eval.phase")
    make_resize(c)
    values = flatten(config)
    check_ranges(config)
    for key, kind in ELEMENTS.items():
        if not fits(tuple(values[key]), tuple[kind, ...]):
            words = {int: "whole numbers", float: "numbers", str: "texts"}[kind]
            raise UserError(f"config.{key} must have {words} only, got {tuple(values[key])}.")
    if len(c.augment.scale) != 2 or not 0 < min(c.augment.scale) <= max(c.augment.scale) == c.augment.scale[-1]:
        raise UserError(f"config.augment.scale must be (smallest, largest), both positive, got {c.augment.scale}.")
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
            known = f"from {low:g} to {high:g}" if high < math.inf else known
            known = "at least 0 and less than 1" if high == math.nextafter(1, 0) else known
            raise UserError(f"config.{key} must be {known}, got {value}.")


def check_metrics(names: Sequence[str], options: Mapping[str, Any]) -> dict[str, metrics.Metric]:
    """Returns the metrics that config.eval names; raises a `UserError` for one that does not exist."""
    names = tuple(dict.fromkeys(("confusion", *names)))  # whose mIoU chooses the best checkpoint
    return metrics.create_metrics(names, options)


def without_effect(config: ConfigDict) -> list[str]:
    """Returns a sentence on each setting that was changed and has no effect beside the others."""
    c, default, values = config, flatten(default_config()), flatten(config)
    own_encoder = encoder_name(config) is None
    idle = {  # what makes it idle -> (whether that is so, the settings)
        "optim.name is 'adamw'": (c.optim.name == "adamw", ("optim.momentum", "optim.nesterov")),
        "optim.name is 'sgd'": (c.optim.name == "sgd", ("optim.beta1", "optim.beta2")),
        f"optim.schedule is '{c.optim.schedule}'": (c.optim.schedule != "poly", ("optim.power",)),
        "augment.elastic is 0": (not c.augment.elastic, ("augment.elastic_grid",)),
        "augment.blur is 0": (not c.augment.blur, ("augment.blur_sigma",)),
        "model.weights is empty": (not c.model.weights, ("model.replace_head",)),
        f"the model '{c.model.name}' has no encoder": (own_encoder, ("optim.encoder_lr_factor",)),
        "optim.freeze has the encoder": ("encoder" in c.optim.freeze, ("optim.encoder_lr_factor",)),
    }
    return [
        f"config.{key}={values[key]} has no effect: {why}."
        for why, (is_so, keys) in idle.items()
        for key in keys
        if is_so and values[key] != default[key]
    ]


def flatten(tree: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns the values of a nested mapping by dotted key, e.g. {"optim.lr": 0.001}."""
    return flatten_dict(tree.to_dict() if isinstance(tree, ConfigDict) else tree, sep=".")


def check_workdir(workdir: str | Path) -> Path:
    """Returns the folder of a run as a `Path`; raises a `UserError` if the name is empty or names a file."""
    if not str(workdir):
        raise UserError("--workdir is empty. Name the folder of the run.")
    workdir = Path(workdir)
    if workdir.is_symlink() and not workdir.exists():
        raise UserError(f"--workdir {workdir} is a link to {workdir.readlink()}, which is not there. Make that folder.")
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir {workdir} is a file. Name a folder.")
    return workdir


def claim_workdir(
    config: ConfigDict, dataset: Dataset, workdir: str | Path, preprocessing: Preprocessing | None = None
) -> None:
    """Writes config.json and dataset.json to the workdir.

    If the workdir already has a checkpoint, its config must be the same. As long as there is no checkpoint, the config
    may still be changed: a run that failed at once can be repaired and started again in the same folder.

    Raises:
      UserError: the workdir holds a run of another config; the message lists the settings that differ.
    """
    workdir = check_workdir(workdir)
    path = workdir / "config.json"
    ours = flatten(json.loads(config.to_json()))
    if path.exists() and any((workdir / "checkpoints").glob("[0-9]*")):
        theirs = flatten(with_current_names(read_json(path)))
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
            "palette": [list(map(int, color)) for color in dataset.palette],
            "ignore": dataset.ignore,
            "values": dataset.values,
            **({"preprocessing": preprocessing.to_json()} if preprocessing else {}),
        },
    )


def read_config(workdir: str | Path) -> ConfigDict:
    """Returns the config of a run. Settings that did not exist when the run began have their defaults.

    Raises:
      UserError: the folder has no config.json.
    """
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise UserError(f"No run in {workdir}: {path} is missing. Check --workdir.")
    config = default_config()
    with config.unlocked():
        for key in OPEN:  # the run's own mapping, not one joined with the defaults
            group, name = key.split(".")
            config[group][name] = ConfigDict()
        try:
            config.update(with_current_names(read_json(path, "Copy it again, or train again.")))
        except (TypeError, AttributeError, KeyError, RecursionError) as error:
            raise UserError(
                f"{path} holds a value of another type than the setting: {str(error).splitlines()[0]}."
                " Copy it again, or train again."
            ) from error
    return config


def enable_compilation_cache(folder: str) -> None:
    """Keeps compiled programs in `folder`, so that the next run need not compile them again; "" is off."""
    if folder:
        jax.config.update("jax_compilation_cache_dir", str(Path(folder).expanduser()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
