"""What a run has before its first step: its state, the weights that it starts from, its batches, and some lines."""

from pathlib import Path
from typing import Any

import jax
import optax
from flax.errors import FlaxError
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxseg.checks import UserError
from jaxseg.data import pipeline, report
from jaxseg.data.verdict import Setting
from jaxseg.experiment import build as experiments
from jaxseg.experiment import devices as shard
from jaxseg.experiment.inputs import crop_off_place
from jaxseg.experiment.limits import encoder_name, without_effect
from jaxseg.experiment.log import say
from jaxseg.experiment.state import TrainState, create_state
from jaxseg.experiment.xla import not_set
from jaxseg.models import init


def initial_state(
    experiment: experiments.Experiment, mesh: Mesh, schedule: optax.Schedule, resuming: bool
) -> tuple[TrainState, optax.GradientTransformation]:
    """Returns (state, tx), the state on `mesh`; no pretrained weights are read that a checkpoint will replace."""
    config, c = experiment.config, experiment.config.model
    try:
        key, bands = jax.random.key(config.seed), experiment.preprocessing.bands.count
        variables = init(experiment.model, key, image_size=tuple(config.data.crop), in_channels=bands)
    except UserError:
        raise
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, FlaxError) as error:
        text = (str(error).strip().splitlines() or ["no message"])[0]
        raise UserError(
            f"The model of config.model can't be made: {type(error).__name__}: {text}\nCheck config.model.options"
            f" {c.options.to_dict()} and config.model.encoder_options {c.encoder_options.to_dict()}."
        ) from error
    if not resuming:
        variables = _load_weights(variables, experiment)
    tx = experiments.make_optimizer(config, schedule)
    options = {"ema": config.optim.ema > 0, "freeze": tuple(config.optim.freeze)}
    return shard.build(lambda variables: create_state(variables, tx, **options), variables, mesh), tx


def _load_weights(variables: dict[str, Any], experiment: experiments.Experiment) -> dict[str, Any]:
    """Returns the variables with the weights that `config.model` names, if any."""
    config, in_channels = experiment.config, experiment.preprocessing.bands.count
    c = config.model
    if c.encoder_weights and encoder_name(config) is None:
        raise UserError(
            f"config.model.encoder_weights={c.encoder_weights}, but '{c.name}' is its own encoder. Leave it empty."
        )
    if c.encoder_weights:
        from jaxseg.pretrained import load_encoder, weights_origin

        name, options = encoder_name(config), c.encoder_options.to_dict()
        say(f"Encoder weights: {weights_origin(name, c.encoder_weights)}")
        encoder = load_encoder(name, c.encoder_weights, in_channels=in_channels, **options)
        for collection, values in encoder.items():
            if values:  # an encoder without running statistics has none in the model's variables either
                variables[collection]["encoder"] = values
    if c.weights:
        from jaxseg.training.origin import start_from

        variables = start_from(variables, experiment)
    return variables


def make_batches(experiment: experiments.Experiment) -> pipeline.TrainIterator:
    """Returns the batches of the training split that this process reads."""
    config, dataset, seen = experiment.config, experiment.dataset, experiment.preprocessing
    processes = jax.process_count()
    return pipeline.train_iterator(
        dataset.splits[config.data.train_split],
        canvas=tuple(config.data.canvas),
        batch_size=config.data.batch_size // processes,
        seed=config.seed,
        ignore=dataset.ignore,
        num_labels=dataset.num_labels,
        bands=seen.bands,
        resize=seen.resize,
        balance=config.data.balance,
        workers=config.data.workers,
        threads=config.data.threads,
        shard=(jax.process_index(), processes),
    )


def announce(
    experiment: experiments.Experiment, state: TrainState, mesh: Mesh, workdir: Path, start: int, steps: int
) -> None:
    """Says what is trained on what, what the data looks like, and which settings have no effect."""
    c, data = experiment.config, experiment.dataset
    parameters = sum(p.size for p in jax.tree.leaves(state.params))
    sizes = " + ".join(str(len(data.splits[split])) for split in (c.data.train_split, c.data.eval_split))
    names = c.model.name, encoder_name(c)
    devices = f"{mesh.size} {jax.default_backend()} device{'s' * (mesh.size > 1)}"
    say(
        f"{' / '.join(filter(None, names))}, {parameters / 1e6:.2f} M parameters, {c.model.dtype};"
        f" {data.name}: {sizes} images, {data.num_classes} classes;"
        f" {steps} steps of {c.data.batch_size} on {devices} -> {workdir}"
    )
    if experiment.looks:
        setting = Setting(experiment.preprocessing.resize, tuple(c.data.canvas), tuple(c.data.crop))
        lines, warned = report.startup(data, experiment.looks, setting, experiment.preprocessing)
        for line in [*lines, *(f"warning: {sentence}" for sentence in warned)]:
            say(line)
    for sentence in slow_or_unset(c, jax.default_backend()):
        say(f"warning: {sentence}")
    off = crop_off_place(c, experiment.model)
    for sentence in [*without_effect(c, state.params), *([off] if off else [])]:
        say(f"note: {sentence}")
    if start:
        say(f"Going on from checkpoint {start}.")
    else:
        say("The first step compiles the program; that takes a while, once.")


def slow_or_unset(config: ConfigDict, backend: str) -> list[str]:
    """Returns sentences on what of a config makes training slow on this device, or could not be set for it.

    Args:
      config: of the run.
      backend: "cpu", "gpu" or "tpu".
    """
    found = []
    if backend == "cpu" and config.model.dtype == "bfloat16":
        found.append(
            "config.model.dtype=bfloat16 on a CPU, which computes it up to three times slower than float32. Try"
            " --config.model.dtype=float32."
        )
    if backend == "gpu" and (missing := not_set(config)):
        found.append(
            f"XLA_FLAGS lacks {' '.join(missing)} of config.train.xla or config.train.autotune_cache: JAX had begun"
            " before. `jaxseg train` sets them; another program calls jaxseg.experiment.xla.set_flags first."
        )
    return found
