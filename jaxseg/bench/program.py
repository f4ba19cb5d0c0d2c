"""The training step of a case, the one that `jaxseg train` runs: made here for every mode of the benchmark."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import AbstractMesh, Mesh
from ml_collections import ConfigDict

from jaxseg.bench.cases import Case
from jaxseg.bench.nnunet import NnUNet2d
from jaxseg.config import default_config
from jaxseg.data.bands import RGB, Bands
from jaxseg.experiment import build
from jaxseg.experiment.devices import batched, make_mesh, replicated
from jaxseg.experiment.state import create_state
from jaxseg.models import init, pixel_statistics
from jaxseg.training.step import TrainStep, make_train_step

OWN: dict[str, Callable[..., nn.Module]] = {"nnunet_2d": NnUNet2d}  # networks that are measured, and not offered
STEPS = 10_000  # of the schedule, which is a part of the step


@dataclass(frozen=True)
class Program:
    """The training step of a case, and what belongs to it."""

    case: Case
    config: ConfigDict
    model: nn.Module
    tx: optax.GradientTransformation
    step: TrainStep
    augment_fn: Callable[..., Any]  # (key, batch) -> batch: the part of the step that is augmentation
    mesh: Mesh
    mean: tuple[float, ...]  # of each band of the images, in 0..255
    std: tuple[float, ...]

    def variables(self) -> dict[str, Any]:
        """Returns random initial variables of the model."""
        return init(
            self.model,
            jax.random.key(self.config.seed),
            image_size=self.case.size,
            in_channels=self.case.in_channels,
        )

    def shapes(self) -> tuple[Any, dict[str, Any]]:
        """Returns the shapes of a state and of a batch, placed on the mesh: what the step is compiled for."""
        images = jax.ShapeDtypeStruct((1, *self.case.size, self.case.in_channels), jnp.float32)
        variables = jax.eval_shape(partial(self.model.init, train=False), jax.random.key(0), images)
        state = jax.eval_shape(lambda v: create_state({"batch_stats": {}, **v}, self.tx), variables)
        images_shape = (self.case.batch, *self.case.size)
        batch = {
            "image": jax.ShapeDtypeStruct((*images_shape, self.case.in_channels), np.uint8),
            "label": jax.ShapeDtypeStruct(images_shape, np.uint8),
        }
        return _placed(state, replicated(self.mesh)), _placed(batch, batched(self.mesh))


def _placed(tree: Any, sharding: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def make_config(case: Case, network: Mapping[str, Any] | None = None, steps: int = STEPS) -> ConfigDict:
    """Returns the config whose training step is timed: the defaults, with the zoom and flip of most recipes.

    Args:
      case: what is measured.
      network: of a peer, the arguments of `create_model` that make the same network here; None is the case's own.
      steps: of the schedule of the learning rate.
    """
    network = dict(network or {"name": case.model, "encoder": case.encoder, "output_stride": case.output_stride})
    c = default_config()
    c.data.update(canvas=case.size, crop=case.size, batch_size=case.batch)
    c.augment.update(scale=(0.5, 2.0), flip=0.5)
    c.train.update(steps=steps, devices=1)
    c.model.update(name=network.pop("name"), encoder=network.pop("encoder", ""), dtype=case.dtype)
    c.model.output_stride = network.pop("output_stride", None)
    c.model.encoder_options = ConfigDict(network.pop("encoder_options", {}))
    c.model.options = ConfigDict(network)
    return c


def make_program(
    case: Case,
    network: Mapping[str, Any] | None = None,
    mesh: Mesh | AbstractMesh | None = None,
    steps: int = STEPS,
) -> Program:
    """Returns the training step of a case: augmentation, forward pass, loss, gradient and its norm, update.

    Nothing is computed yet, and no device is touched if a mesh is given.

    Args:
      case: what is measured.
      network: see `make_config`.
      mesh: of one device; None is the first that JAX has.
      steps: see `make_config`.
    """
    config = make_config(case, network, steps)
    mesh = make_mesh(config.train.devices) if mesh is None else mesh
    if case.model in OWN:
        model = OWN[case.model](case.classes, dtype=jnp.dtype(case.dtype), in_channels=case.in_channels)
    else:
        model = build.build_model(config, case.classes)
    mean, std = pixel_statistics(model, case.in_channels)
    bands = RGB if case.in_channels == 3 else Bands(tuple(f"band {i}" for i in range(case.in_channels)))
    tx = build.make_optimizer(config, build.make_schedule(config, steps))
    augment_fn = build.make_augment(config, ignore=255, mean=mean, std=std, bands=bands)
    options = {"seed": config.seed, "grad_norm": config.log.grad_norm, "mesh": mesh}
    step = make_train_step(model, tx, build.make_loss(config), augment_fn=augment_fn, **options)
    return Program(case, config, model, tx, step, augment_fn, mesh, mean, std)
