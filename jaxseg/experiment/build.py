"""Builds data set, model, loss and optimizer from a config, which is checked first."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import jax
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from jaxseg import losses
from jaxseg.checks import UserError
from jaxseg.data import Dataset, check_dataset, check_options_are_its_own, create_dataset
from jaxseg.data.augment import Augment, augment, check_colors
from jaxseg.data.bands import RGB, Bands
from jaxseg.data.check import Look
from jaxseg.data.preprocessing import Preprocessing
from jaxseg.experiment import optim
from jaxseg.experiment.inputs import fit_preprocessing
from jaxseg.experiment.limits import check_config
from jaxseg.experiment.workdir import claimed_preprocessing
from jaxseg.models import create_model


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
    check_options_are_its_own(c.options.to_dict())
    dataset = create_dataset(
        c.name,
        c.root,
        label_offset=c.label_offset,
        label_ignore=tuple(c.label_ignore),
        **c.options.to_dict(),
    )
    strict = {c.train_split, *(splits if config.eval.strict else ())}  # of the others what does not read is left out
    looks = tuple(check_dataset(dataset, split, strict=split in strict) for split in splits)
    losses.check_loss_config(**config.loss.to_dict(), num_classes=dataset.num_classes)
    model = build_model(config, dataset.num_classes)
    options = config.model.options
    if "in_channels" in options and options.in_channels not in (None, dataset.bands.count):
        raise UserError(
            f"config.model.options.in_channels={options.in_channels}, but the images have {dataset.bands.count} bands:"
            f" {', '.join(dataset.bands.names)}. Leave it out: a model is made for the bands of its data, which"
            " config.data.options.bands chooses."
        )
    preprocessing = claimed_preprocessing(workdir) or fit_preprocessing(config, dataset, model)
    check_colors(Augment(**config.augment), preprocessing.bands)
    return Experiment(config, dataset, model, preprocessing, looks)


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
    for option in c.options:
        if option == "num_classes":
            raise UserError(
                "config.model.options.num_classes: a model has the classes of the data. Leave it out, and name them in"
                " the folder's classes.json (docs/data.md)."
            )
        if option in ("name", "encoder", "encoder_options", "output_stride", "dtype", "head_dtype"):
            raise UserError(f"config.model.options.{option} is a setting of its own. Set config.model.{option}.")
    return create_model(
        c.name,
        encoder=c.encoder,
        num_classes=num_classes,
        output_stride=c.output_stride,
        dtype=c.dtype,
        head_dtype=c.head_dtype or None,
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
    names = ("lr", "schedule", "power", "drops", "drop_factor", "warmup_steps", "accumulate")
    return optim.make_schedule(steps, **{name: c[name] for name in names})


def make_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimizer that `config.optim` describes. Frozen parameters are left to `make_train_step`."""
    c = config.optim
    names = ("name", "weight_decay", "beta1", "beta2", "momentum", "nesterov")
    names += ("clip_norm", "encoder_lr_factor", "accumulate")
    return optim.make_optimizer(schedule, lr_factors=c.lr_factors.to_dict(), **{name: c[name] for name in names})
